/* Preloaded into a program: below the folder POWER_DIR only what was synced survives a power cut.
 *
 * Writes go to the real files at once, and into a log until the file is synced. At the cut each file is
 * put back to what was synced last, and of what came later a part chosen by POWER_SEED is written
 * again: all, nothing, single writes, single sectors of 512 bytes of a write. Files that were created,
 * renamed and removed since their folder was synced are so again only up to a point chosen as well, as a
 * file system with a journal does it; syncing a file keeps its name, too. Then the process is killed.
 *
 * The cut comes at operation POWER_CUT_AT (writes, truncations, syncs, creations, renames, removals
 * below POWER_DIR are counted from 1), or at the signal SIGRTMAX-1.
 *
 * POWER_IGNORE_SYNC=1: a card that says yes to a sync and does nothing.
 * POWER_KEEP=none: nothing that was not synced is kept.
 * POWER_FULL=FILE: while FILE exists no file grows; ENOSPC.
 * POWER_SHADOW: a folder on the same file system for what was removed and may come back.
 *
 * SQLite's shared memory (-shm) is left alone: it is rebuilt by whoever opens the database first. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECTOR 512

struct change {
    struct change *next, *before;
    int truncation;
    off_t at;           /* of a write; the new size of a truncation */
    size_t n;           /* bytes written */
    char *data;
    off_t size;         /* the file's size before */
    char *old;          /* what was there before */
    size_t old_n;
};

struct file {
    struct file *next;
    dev_t dev;
    ino_t ino;
    int fd; /* Our own. Never closed: that would drop the program's locks on the file. */
    struct change *first, *last;
};

enum { CREATED, RENAMED, REMOVED, FOLDER };

struct name {
    struct name *next, *before;
    int what;
    char *from, *to, *shadow;
};

static struct file *files;
static struct name *first_name, *last_name;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t asked;
static char root[PATH_MAX], shadows[PATH_MAX];
static size_t root_n;
static const char *full;
static int ignores_sync, keeps_nothing;
static unsigned long long dice, operations, cut_at, shadow_count;

#define REAL(result, name, ...) static result (*real_##name)(__VA_ARGS__)
REAL(int, open, const char *, int, ...);
REAL(int, openat, int, const char *, int, ...);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
REAL(ssize_t, writev, int, const struct iovec *, int);
REAL(int, ftruncate64, int, off64_t);
REAL(int, fsync, int);
REAL(int, fdatasync, int);
REAL(int, rename, const char *, const char *);
REAL(int, unlink, const char *);
REAL(int, mkdir, const char *, mode_t);

static void *must(void *p)
{
    if (!p) {
        static const char text[] = "power_cut: not possible\n";
        real_write ? real_write(2, text, sizeof text - 1) : 0;
        _exit(97);
    }
    return p;
}

static unsigned roll(unsigned n)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)(dice >> 16) % n;
}

/* The cut. Only calls that a signal handler may make. */

static void put(int fd, const char *data, size_t n, off_t at)
{
    while (n) {
        ssize_t done = real_pwrite64(fd, data, n, at);
        if (done <= 0)
            _exit(98);
        data += done, n -= (size_t)done, at += done;
    }
}

static void undo(int fd, const struct change *c)
{
    if (real_ftruncate64(fd, c->size))
        _exit(98);
    put(fd, c->old, c->old_n, c->at);
}

static void redo(int fd, const struct change *c, int torn)
{
    if (c->truncation) {
        if (real_ftruncate64(fd, c->at))
            _exit(98);
        return;
    }
    for (size_t at = 0; at < c->n;) {
        size_t n = SECTOR - (size_t)(c->at + (off_t)at) % SECTOR;
        if (n > c->n - at)
            n = c->n - at;
        if (!torn || roll(2))
            put(fd, c->data + at, n, c->at + (off_t)at);
        at += n;
    }
}

static void cut_file(const struct file *f, unsigned way)
{
    for (const struct change *c = f->last; c; c = c->before)
        undo(f->fd, c);
    for (const struct change *c = f->first; c; c = c->next) {
        switch (keeps_nothing ? 0 : way) {
        case 0: /* nothing */
            return;
        case 1: /* all but the end of the last */
            redo(f->fd, c, !c->next);
            break;
        case 2: /* the card wrote in an order of its own */
            if (roll(2))
                redo(f->fd, c, roll(4) == 0);
            break;
        default: /* the first ones */
            if (roll(8) == 0) {
                redo(f->fd, c, 1);
                return;
            }
            redo(f->fd, c, 0);
        }
    }
}

static void cut_names(void)
{
    unsigned count = 0;
    for (const struct name *n = first_name; n; n = n->next)
        count++;
    unsigned stay = keeps_nothing ? 0 : roll(count + 1);
    for (const struct name *n = last_name; n && count > stay; n = n->before, count--) {
        switch (n->what) {
        case CREATED:
            real_unlink(n->to);
            break;
        case FOLDER:
            rmdir(n->to);
            break;
        case RENAMED:
            real_rename(n->to, n->from);
            /* fall through */
        case REMOVED:
            if (n->shadow)
                real_rename(n->shadow, n->to);
        }
    }
}

static void cut(void)
{
    static const char text[] = "power cut\n";
    for (const struct file *f = files; f; f = f->next)
        cut_file(f, roll(4));
    cut_names();
    if (real_write(2, text, sizeof text - 1) < 0)
        _exit(98);
    for (;;)
        kill(getpid(), SIGKILL);
}

static void on_signal(int number)
{
    (void)number;
    asked = 1;
    if (pthread_mutex_trylock(&lock) == 0)
        cut();
}

/* One operation more; the lock is held. */
static void count(void)
{
    if (++operations == cut_at)
        cut();
}

static void unlock(void)
{
    if (asked)
        cut();
    pthread_mutex_unlock(&lock);
    if (asked && pthread_mutex_trylock(&lock) == 0)
        cut();
}

__attribute__((constructor)) static void begin(void)
{
#define FIND(name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)
    FIND(write);
    FIND(open), FIND(openat), FIND(pwrite64), FIND(writev), FIND(ftruncate64), FIND(fsync);
    FIND(fdatasync), FIND(rename), FIND(unlink), FIND(mkdir);
    const char *dir = getenv("POWER_DIR"), *shadow = getenv("POWER_SHADOW");
    const char *seed = getenv("POWER_SEED"), *at = getenv("POWER_CUT_AT");
    const char *keep = getenv("POWER_KEEP");
    must((void *)dir), must((void *)shadow);
    snprintf(root, sizeof root, "%s/", dir);
    root_n = strlen(root);
    snprintf(shadows, sizeof shadows, "%s", shadow);
    dice = (seed ? strtoull(seed, NULL, 10) : 1) * 0x9e3779b97f4a7c15ull + 1;
    for (int n = 0; n < 20; n++)
        roll(2);
    cut_at = at ? strtoull(at, NULL, 10) : 0;
    full = getenv("POWER_FULL");
    ignores_sync = getenv("POWER_IGNORE_SYNC") != NULL;
    keeps_nothing = keep && !strcmp(keep, "none");
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigaction(SIGRTMAX - 1, &act, NULL);
    /* The programs that this one starts have power. */
    unsetenv("LD_PRELOAD");
}

/* Files. */

static int is_ours(const char *path)
{
    size_t n = strlen(path);
    return root_n && !strncmp(path, root, root_n) && !(n > 4 && !strcmp(path + n - 4, "-shm"));
}

/* The file behind a descriptor, if it is one of ours. */
static struct file *ours(int fd)
{
    struct stat st;
    char link[64], path[PATH_MAX];
    if (!root_n || fstat(fd, &st) || !S_ISREG(st.st_mode))
        return NULL;
    for (struct file *f = files; f; f = f->next)
        if (f->ino == st.st_ino && f->dev == st.st_dev)
            return f;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return NULL;
    path[n] = 0;
    if (!is_ours(path))
        return NULL;
    struct file *f = must(calloc(1, sizeof *f));
    f->fd = real_open(link, O_RDWR | O_CLOEXEC);
    must(f->fd < 0 ? NULL : f);
    f->dev = st.st_dev, f->ino = st.st_ino;
    f->next = files, files = f;
    return f;
}

static off_t size_of(const struct file *f)
{
    struct stat st;
    must(fstat(f->fd, &st) ? NULL : &st);
    return st.st_size;
}

static void log_change(struct file *f, int truncation, off_t at, const void *data, size_t n)
{
    struct change *c = must(calloc(1, sizeof *c));
    c->truncation = truncation;
    c->at = at, c->n = n, c->size = size_of(f);
    if (n) {
        c->data = must(malloc(n));
        memcpy(c->data, data, n);
    }
    off_t end = truncation || at + (off_t)n > c->size ? c->size : at + (off_t)n;
    if (end > at) {
        c->old_n = (size_t)(end - at);
        c->old = must(malloc(c->old_n));
        must(pread(f->fd, c->old, c->old_n, at) == (ssize_t)c->old_n ? c : NULL);
    }
    c->before = f->last;
    if (f->last)
        f->last->next = c;
    else
        f->first = c;
    f->last = c;
}

static void synced(struct file *f)
{
    for (struct change *c = f->first, *next; c; c = next) {
        next = c->next;
        free(c->data), free(c->old), free(c);
    }
    f->first = f->last = NULL;
}

static int no_room(const struct file *f, off_t end)
{
    return full && end > size_of(f) && !access(full, F_OK);
}

static ssize_t write_at(int fd, const void *data, size_t n, off_t at, int moves)
{
    pthread_mutex_lock(&lock);
    struct file *f = ours(fd);
    if (f) {
        if (moves)
            at = fcntl(fd, F_GETFL) & O_APPEND ? size_of(f) : lseek(fd, 0, SEEK_CUR);
        if (no_room(f, at + (off_t)n)) {
            unlock();
            errno = ENOSPC;
            return -1;
        }
        log_change(f, 0, at, data, n);
    }
    if (!f)
        /* Not ours: it may block, and nobody waits for it. */
        unlock();
    ssize_t done = moves ? real_write(fd, data, n) : real_pwrite64(fd, data, n, at);
    if (f) {
        must(done == (ssize_t)n ? f : NULL);
        count();
        unlock();
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t n) { return write_at(fd, data, n, 0, 1); }

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    return write_at(fd, data, n, at, 0);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return pwrite64(fd, data, n, at); }

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    pthread_mutex_lock(&lock);
    struct file *f = ours(fd);
    unlock();
    if (!f)
        return real_writev(fd, parts, n);
    /* A short write is allowed. */
    return n > 0 ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

int ftruncate64(int fd, off64_t size)
{
    pthread_mutex_lock(&lock);
    struct file *f = ours(fd);
    if (f && no_room(f, size)) {
        unlock();
        errno = ENOSPC;
        return -1;
    }
    if (f)
        log_change(f, 1, size, NULL, 0);
    int done = real_ftruncate64(fd, size);
    if (f)
        count();
    unlock();
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Without these the program writes itself. */
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags)
{
    (void)in, (void)a, (void)out, (void)b, (void)n, (void)flags;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t n)
{
    (void)in, (void)at, (void)out, (void)n;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile(int out, int in, off_t *at, size_t n) { return sendfile64(out, in, at, n); }

int posix_fallocate(int fd, off_t at, off_t n)
{
    (void)fd, (void)at, (void)n;
    return EINVAL;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    (void)fd, (void)mode, (void)at, (void)n;
    errno = EOPNOTSUPP;
    return -1;
}

/* Names. */

static struct name *log_name(int what, const char *from, const char *to)
{
    struct name *n = must(calloc(1, sizeof *n));
    n->what = what;
    n->from = from ? must(strdup(from)) : NULL;
    n->to = must(strdup(to));
    n->before = last_name;
    if (last_name)
        last_name->next = n;
    else
        first_name = n;
    last_name = n;
    return n;
}

static void forget(struct name *n)
{
    *(n->before ? &n->before->next : &first_name) = n->next;
    *(n->next ? &n->next->before : &last_name) = n->before;
    if (n->shadow)
        real_unlink(n->shadow);
    free(n->from), free(n->to), free(n->shadow), free(n);
}

static int is_in(const char *path, const char *dir, size_t dir_n)
{
    return path && !strncmp(path, dir, dir_n) && path[dir_n] == '/' && !strchr(path + dir_n + 1, '/');
}

static char *shadow(void)
{
    char path[PATH_MAX + 40];
    snprintf(path, sizeof path, "%s/%d-%llu", shadows, (int)getpid(), shadow_count++);
    return must(strdup(path));
}

/* What is synced: a folder's names, or a file with its own. */
static void sync_names(int fd)
{
    char link[64], path[PATH_MAX];
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || fstat(fd, &st))
        return;
    path[n] = 0;
    struct name *last = NULL;
    for (struct name *m = first_name; m; m = m->next) {
        int folder = S_ISDIR(st.st_mode) && (is_in(m->from, path, (size_t)n) || is_in(m->to, path, (size_t)n));
        if (folder || (m->what == CREATED && !strcmp(m->to, path)))
            last = m;
    }
    /* The journal has an order: what came before is kept with it. */
    while (last && first_name != last)
        forget(first_name);
    if (last)
        forget(last);
}

static int sync_file(int fd, int (*real)(int))
{
    pthread_mutex_lock(&lock);
    struct stat st;
    struct file *f = ours(fd);
    int folder = !f && root_n && !fstat(fd, &st) && S_ISDIR(st.st_mode);
    if (!f && !folder) {
        unlock();
        return real(fd);
    }
    count();
    if (!ignores_sync) {
        if (f)
            synced(f);
        sync_names(fd);
    }
    unlock();
    return 0;
}

int fsync(int fd) { return sync_file(fd, real_fsync); }
int fdatasync(int fd) { return sync_file(fd, real_fdatasync); }

static int open_ours(int at, const char *path, int flags, mode_t mode)
{
    if (!(flags & (O_CREAT | O_TRUNC)) || !is_ours(path) || (flags & O_TMPFILE) == O_TMPFILE)
        return real_openat(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat st;
    int there = !stat(path, &st);
    int fd = real_openat(at, path, flags & ~O_TRUNC, mode);
    if (fd >= 0) {
        struct file *f = ours(fd);
        if (!there) {
            log_name(CREATED, NULL, path);
            count();
        } else if (f && flags & O_TRUNC && st.st_size) {
            log_change(f, 1, 0, NULL, 0);
            must(real_ftruncate64(f->fd, 0) ? NULL : f);
            count();
        }
    }
    unlock();
    return fd;
}

#define OPEN(at)                                      \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                     \
    return open_ours(at, path, flags, mode);

int open(const char *path, int flags, ...) { OPEN(AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPEN(AT_FDCWD) }
int openat(int at, const char *path, int flags, ...) { OPEN(at) }
int openat64(int at, const char *path, int flags, ...) { OPEN(at) }

int rename(const char *from, const char *to)
{
    if (!is_ours(from) && !is_ours(to))
        return real_rename(from, to);
    pthread_mutex_lock(&lock);
    char *kept = NULL;
    if (!access(to, F_OK)) {
        kept = shadow();
        must(link(to, kept) ? NULL : kept);
    }
    int done = real_rename(from, to);
    if (!done) {
        log_name(RENAMED, from, to)->shadow = kept;
        count();
    }
    unlock();
    return done;
}

int unlink(const char *path)
{
    struct stat st;
    if (!is_ours(path) || lstat(path, &st) || !S_ISREG(st.st_mode))
        return real_unlink(path);
    pthread_mutex_lock(&lock);
    char *kept = shadow();
    int done = real_rename(path, kept);
    if (!done) {
        log_name(REMOVED, NULL, path)->shadow = kept;
        count();
    }
    unlock();
    return done;
}

int mkdir(const char *path, mode_t mode)
{
    pthread_mutex_lock(&lock);
    int done = real_mkdir(path, mode);
    if (!done && is_ours(path)) {
        log_name(FOLDER, NULL, path);
        count();
    }
    unlock();
    return done;
}
