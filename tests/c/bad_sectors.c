/* Preloaded into a program: reads of the file of inode BAD_INODE that touch the bytes BAD_FROM to
 * BAD_TO fail with EIO, as they do on a card that dies. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

static int is_bad(int fd, size_t n, off64_t at)
{
    struct stat st;
    if ((unsigned long long)at >= number("BAD_TO") ||
        (unsigned long long)at + n <= number("BAD_FROM"))
        return 0;
    return fstat(fd, &st) == 0 && st.st_ino == number("BAD_INODE");
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real)
        real = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    if (is_bad(fd, n, at)) {
        errno = EIO;
        return -1;
    }
    return real(fd, to, n, at);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return pread64(fd, to, n, at);
}
