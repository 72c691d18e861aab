/* A disk that fails, or a process that dies, at the n-th write below given folders.

   Loaded before every other library (LD_PRELOAD), so that it stands between the C library and
   whoever writes: Python, and the native code of safetensors, tokenizers and Arrow as well. It
   does nothing until `fault_arm` is called, in the process that calls it. What writes without
   the C library's functions, or through a FILE of it after opening, is not seen. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, SYNC = 4, RENAME = 8, REMOVE = 16 };
enum { COUNT, FAIL, KILL };

static char prefixes[4 * PATH_MAX];
static long nth, seen;
static int armed, mode, classes, error_number, stays, log_fd = -1;

/* `below`: folders joined by ':'. The `n`-th operation of the classes in `which` is the one; with
   `more`, those after it that take room fail too, or with EROFS all. `log` gets "N what path". */
void fault_arm(const char *below, long n, int what, int which, int number, int more, const char *log)
{
    snprintf(prefixes, sizeof prefixes, "%s", below);
    nth = n; mode = what; classes = which; error_number = number; stays = more; seen = 0;
    if (log && *log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    armed = 1;
}

long fault_seen(void) { return seen; }

static int below(const char *path)
{
    for (const char *at = prefixes; *at;) {
        size_t length = strcspn(at, ":");
        if (!strncmp(path, at, length) && (path[length] == '/' || !path[length])) return 1;
        at += length + (at[length] == ':');
    }
    return 0;
}

static int name_of(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    if (size < 0) return 0;
    out[size] = 0;
    return 1;
}

/* The absolute path, in `out` of 2 * PATH_MAX; whether it is below one of the folders. */
static int watched_at(int folder, const char *path, char *out)
{
    int kept = errno;
    *out = 0;
    if (!armed || !path) return 0;
    if (*path != '/') {
        if (folder == AT_FDCWD ? !getcwd(out, PATH_MAX) : !name_of(folder, out)) *out = 0;
        strcat(out, "/");
    }
    strncat(out, path, PATH_MAX - 1);
    errno = kept;
    return below(out);
}

static int watched(int fd, char *out)
{
    int kept = errno, found = armed && name_of(fd, out) && below(out);
    errno = kept;
    return found;
}

/* 0: go on; > 0: fail with it; -1: die. */
static int decide(int class, const char *what, const char *path)
{
    if (!(class & classes)) return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (log_fd >= 0) {
        char line[3 * PATH_MAX];
        int size = snprintf(line, sizeof line, "%ld %s %s\n", number, what, path);
        syscall(SYS_write, log_fd, line, size);
    }
    if (mode == COUNT || number < nth) return 0;
    if (mode == KILL) return number == nth ? -1 : 0;
    if (number == nth) return error_number;
    if (!stays) return 0;
    return error_number == EROFS || (class & (CREATE | WRITE | SYNC)) ? error_number : 0;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define VERDICT(bad, class, what, path) \
    do { \
        int verdict = decide(class, what, path); \
        if (verdict < 0) die(); \
        if (verdict > 0) { errno = verdict; return bad; } \
    } while (0)

/* Opening takes room where it makes a file; on a read-only disk it fails wherever it may write. */
static int opening(int folder, const char *path, int flags)
{
    char full[2 * PATH_MAX];
    struct stat facts;
    if (!watched_at(folder, path, full)) return 0;
    int kept = errno, writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    int makes = (flags & O_CREAT) && fstatat(folder, path, &facts, 0) != 0;
    errno = kept;
    if (!makes && !(writes && error_number == EROFS)) return 0;
    VERDICT(-1, CREATE, "open", full);
    return 0;
}

static int mode_of(int flags, va_list rest)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, int) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; va_start(rest, flags); int bits = mode_of(flags, rest); va_end(rest); \
        return opening(AT_FDCWD, path, flags) ? -1 : real(path, flags, bits); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; va_start(rest, flags); int bits = mode_of(flags, rest); va_end(rest); \
        return opening(folder, path, flags) ? -1 : real(folder, path, flags, bits); \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *how) \
    { \
        REAL(name); \
        int flags = *how == 'r' ? (strchr(how, '+') ? O_RDWR : O_RDONLY) : O_WRONLY | O_CREAT; \
        return opening(AT_FDCWD, path, flags) ? NULL : real(path, how); \
    }
FOPEN(fopen) FOPEN(fopen64)

/* A full disk takes what still fits: half of it here, and fails at the next write. */
ssize_t write(int fd, const void *bytes, size_t size)
{
    REAL(write);
    char path[PATH_MAX];
    if (!watched(fd, path)) return real(fd, bytes, size);
    int verdict = decide(WRITE, "write", path);
    if (!verdict) return real(fd, bytes, size);
    if (verdict < 0) {
        if (size > 1) real(fd, bytes, size / 2);
        die();
    }
    if (seen == nth && stays && size > 1 && verdict == ENOSPC) return real(fd, bytes, size / 2);
    errno = verdict;
    return -1;
}

#define ON_FD(type, name, signature, call, class, what) \
    type name signature \
    { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (watched(fd, path)) VERDICT(-1, class, what, path); \
        return real call; \
    }
ON_FD(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at), WRITE, "write")
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t at), (fd, b, n, at), WRITE, "write")
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), WRITE, "write")
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at), WRITE, "write")
ON_FD(ssize_t, sendfile, (int fd, int from, off_t *at, size_t n), (fd, from, at, n), WRITE, "write")
ON_FD(ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t n), (fd, from, at, n), WRITE, "write")
ON_FD(ssize_t, copy_file_range, (int from, off64_t *a, int fd, off64_t *b, size_t n, unsigned f), (from, a, fd, b, n, f), WRITE, "write")
ON_FD(int, ftruncate, (int fd, off_t size), (fd, size), WRITE, "truncate")
ON_FD(int, ftruncate64, (int fd, off64_t size), (fd, size), WRITE, "truncate")
ON_FD(int, fallocate, (int fd, int how, off_t at, off_t n), (fd, how, at, n), WRITE, "allocate")
ON_FD(int, fallocate64, (int fd, int how, off64_t at, off64_t n), (fd, how, at, n), WRITE, "allocate")
ON_FD(int, fsync, (int fd), (fd), SYNC, "fsync")
ON_FD(int, fdatasync, (int fd), (fd), SYNC, "fsync")

#define ON_PATH(name, signature, call, folder, path, class, what) \
    int name signature \
    { \
        REAL(name); \
        char full[2 * PATH_MAX]; \
        if (watched_at(folder, path, full)) VERDICT(-1, class, what, full); \
        return real call; \
    }
ON_PATH(mkdir, (const char *path, mode_t m), (path, m), AT_FDCWD, path, CREATE, "mkdir")
ON_PATH(mkdirat, (int at, const char *path, mode_t m), (at, path, m), at, path, CREATE, "mkdir")
ON_PATH(rename, (const char *old, const char *new), (old, new), AT_FDCWD, new, RENAME, "rename")
ON_PATH(renameat, (int a, const char *old, int b, const char *new), (a, old, b, new), b, new, RENAME, "rename")
ON_PATH(renameat2, (int a, const char *old, int b, const char *new, unsigned f), (a, old, b, new, f), b, new, RENAME, "rename")
ON_PATH(link, (const char *old, const char *new), (old, new), AT_FDCWD, new, CREATE, "link")
ON_PATH(symlink, (const char *old, const char *new), (old, new), AT_FDCWD, new, CREATE, "link")
ON_PATH(unlink, (const char *path), (path), AT_FDCWD, path, REMOVE, "unlink")
ON_PATH(unlinkat, (int at, const char *path, int f), (at, path, f), at, path, REMOVE, "unlink")
ON_PATH(rmdir, (const char *path), (path), AT_FDCWD, path, REMOVE, "rmdir")
