#!/bin/sh
# Builds the C programs against the headers and the shared library: tests/c/build.sh OUTDIR LIBDIR.
# LIBDIR holds libiotedge.so (target/debug, for example). The programs find it from OUTDIR.
set -eu
if [ $# -ne 2 ]; then
	echo "usage: $0 OUTDIR LIBDIR" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
include=$here/../../include
mkdir -p "$1"
out=$(cd "$1" && pwd)
lib=$(cd "$2" && pwd)
: "${CC:=gcc}" "${CXX:=g++}"
# -O0 or -O2: undefined values show at one of them. Sanitizers may stand behind it.
optimise=${OPTIMISE:--O0}
warnings="-Wall -Wextra -Werror"
log="-DENABLE_IOT_DEBUG -DENABLE_IOT_INFO -DENABLE_IOT_WARN -DENABLE_IOT_ERROR"

# The loader looks for the library's soname.
ln -sf "$lib/libiotedge.so" "$out/libiotedge.so.1"

link() { # PROGRAM SOURCE
	# shellcheck disable=SC2086 # lists of flags
	"$CC" -std=gnu99 -g $optimise $warnings $log -I"$here" -I"$include" "$here/$2" -o "$out/$1" \
		-L"$lib" -liotedge -Wl,-rpath,'$ORIGIN'
}
link subscribe_publish subscribe_publish.c
link shadow shadow.c
link shadow_echo shadow_echo.c
link jobs jobs.c
link offline offline.c
link native native.c
link closed_socket closed_socket.c
link network network.c
link grow grow.c
link threads threads.c

# The examples, as the handbook says to build them.
for program in hello shadow_lamp logger; do
	# shellcheck disable=SC2086
	"$CC" -g $optimise $warnings -I"$include" "$include/examples/$program.c" -o "$out/$program" \
		-L"$lib" -liotedge -Wl,-rpath,'$ORIGIN'
done

# Programs of version 1 have their headers first, and log by flags of other names.
for program in subscribe_publish shadow shadow_echo; do
	# shellcheck disable=SC2086
	"$CC" -std=gnu99 -g $optimise $warnings -DIOT_INFO -DIOT_WARN -DIOT_ERROR -I"$here/v1" \
		-I"$include/v1" "$here/v1/$program.c" -o "$out/v1_$program" -L"$lib" -liotedge \
		-Wl,-rpath,'$ORIGIN'
done
if command -v "$CXX" >/dev/null; then
	# shellcheck disable=SC2086
	"$CXX" -x c++ -std=c++0x -g $optimise $warnings $log -I"$here" -I"$include" \
		"$here/subscribe_publish.c" -o "$out/subscribe_publish_cpp" -L"$lib" -liotedge \
		-Wl,-rpath,'$ORIGIN'
fi

# The headers alone: old and new C, C++ where there is a compiler for it, with threads and
# without, with every log level and without.
for flags in "" "-D_ENABLE_THREAD_SUPPORT_" "$log -DENABLE_IOT_TRACE"; do
	for standard in c99 gnu11 gnu17; do
		# shellcheck disable=SC2086
		"$CC" -std=$standard -pedantic $warnings -Wno-cast-function-type $flags -I"$include" \
			-c "$here/headers.c" -o "$out/headers.o"
		# shellcheck disable=SC2086
		"$CC" -std=$standard -pedantic $warnings -Wno-cast-function-type -I"$include/v1" \
			-c "$here/v1/headers.c" -o "$out/headers.o"
	done
	if command -v "$CXX" >/dev/null; then
		for source in headers.c subscribe_publish.c shadow.c shadow_echo.c jobs.c offline.c \
			native.c closed_socket.c network.c; do
			# shellcheck disable=SC2086
			"$CXX" -x c++ -std=gnu++11 $warnings -Wno-cast-function-type $flags \
				-I"$here" -I"$include" -c "$here/$source" -o "$out/cpp.o"
		done
		for source in hello shadow_lamp logger; do
			# shellcheck disable=SC2086
			"$CXX" -x c++ -std=gnu++11 $warnings $flags -I"$include" \
				-c "$include/examples/$source.c" -o "$out/cpp.o"
		done
	fi
done
