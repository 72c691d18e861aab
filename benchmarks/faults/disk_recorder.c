/* Records what a program does to the files below one folder, in order, for benchmarks/faults/disk.py.

   Preloaded (LD_PRELOAD) into an unmodified program. PALATE_DISK_ROOT is the folder, PALATE_DISK_LOG
   the file that gets a record of every creation, write, truncation, flush, renaming and removal, with
   its bytes, after it has happened and before its caller knows. A flush is two records, begin and end:
   what is written in between is not covered by it; the disk itself is not asked, since it is the replay
   that decides what was flushed. `disk_mark` puts a record of the program's own among them. What cannot be followed (a shared writable mapping, a copy inside the kernel) is
   recorded as such, and the replay refuses it.

   With PALATE_DISK_FULL=N, or PALATE_DISK_FULL=N-M, the operations that need room fail with ENOSPC from
   the N-th on (to the M-th); the first of them, if it is a write, still takes half of its bytes.

   SQLite's -shm is left out: it is shared memory under a name, and means nothing after a crash. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
#define REAL(name) ((__typeof__(&name))real(#name))

struct head {
    uint64_t op, a, b;
    int64_t c;
    uint64_t first, second, data;
} __attribute__((packed));

static uint64_t inode_of[FILES];
static char root[PATH_MAX];
static int log_file = -1;
static long full_from, full_upto = LONG_MAX, needed;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void note(char op, uint64_t a, uint64_t b, int64_t c, const char *first, const char *second,
                 const void *data, size_t size)
{
    struct head head = {(uint64_t)op, a, b, c, first ? strlen(first) : 0,
                        second ? strlen(second) : 0, size};
    struct iovec parts[4] = {{&head, sizeof head},
                             {(void *)first, head.first},
                             {(void *)second, head.second},
                             {(void *)data, size}};
    size_t whole = sizeof head + head.first + head.second + size;
    int before = errno;
    if (REAL(writev)(log_file, parts, 4) != (ssize_t)whole) {
        fprintf(stderr, "disk_recorder: the log cannot be written\n");
        abort();
    }
    errno = before;
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("PALATE_DISK_ROOT"), *log = getenv("PALATE_DISK_LOG");
    const char *full = getenv("PALATE_DISK_FULL");
    struct stat found;
    if (!folder || !log || !realpath(folder, root) || stat(root, &found))
        return;
    int handle = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_file = REAL(fcntl)(handle, F_DUPFD_CLOEXEC, FILES / 2);
    REAL(close)(handle);
    if (full) {
        char *rest;
        full_from = strtol(full, &rest, 10);
        if (*rest == '-')
            full_upto = strtol(rest + 1, NULL, 10);
    }
    note('I', found.st_ino, 0, 0, NULL, NULL, NULL, 0);
}

void disk_mark(const char *text)
{
    if (log_file >= 0)
        note('A', 0, 0, 0, NULL, NULL, text, strlen(text));
}

static int below_root(const char *path)
{
    size_t length = strlen(root);
    return !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int left_out(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, "-shm");
}

/* The folder that a path's last name stands in (0: not below the root), and that name. */
static uint64_t place(int at, const char *path, char name[NAME_MAX + 1])
{
    char whole[PATH_MAX], resolved[PATH_MAX];
    struct stat found;
    if (log_file < 0 || !path || !*path)
        return 0;
    if (*path == '/' || at == AT_FDCWD)
        snprintf(whole, sizeof whole, "%s%s", *path == '/' ? "" : "./", path);
    else
        snprintf(whole, sizeof whole, "/proc/self/fd/%d/%s", at, path);
    size_t end = strlen(whole);
    while (end > 1 && whole[end - 1] == '/')
        whole[--end] = 0;
    char *last = strrchr(whole, '/');
    snprintf(name, NAME_MAX + 1, "%s", last + 1);
    last[last == whole] = 0;
    int before = errno;
    int inside = realpath(whole, resolved) && below_root(resolved) && !stat(resolved, &found);
    errno = before;
    return inside && !left_out(name) ? found.st_ino : 0;
}

static int is_there(int at, const char *path)
{
    struct stat found;
    int before = errno, there = !fstatat(at, path, &found, AT_SYMLINK_NOFOLLOW);
    errno = before;
    return there;
}

/* Whether there is no room for what comes now; `first` where room has just run out. */
static int no_room(int *first)
{
    if (!full_from)
        return 0;
    long now = __sync_add_and_fetch(&needed, 1);
    if (first)
        *first = now == full_from;
    return now >= full_from && now <= full_upto;
}

static uint64_t known(int handle)
{
    return handle >= 0 && handle < FILES ? inode_of[handle] : 0;
}

static int opened(int at, const char *path, int flags, mode_t mode)
{
    __typeof__(&openat) real_openat = REAL(openat);
    char name[NAME_MAX + 1], link[64], where[PATH_MAX];
    if (log_file < 0)
        return real_openat(at, path, flags, mode);
    uint64_t home = flags & O_CREAT ? place(at, path, name) : 0;
    if (home && !is_there(at, path) && no_room(NULL)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&turn);
    int fresh = home && !is_there(at, path);
    int handle = real_openat(at, path, flags, mode);
    struct stat found;
    if (handle >= 0 && handle < FILES) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
        ssize_t length = readlink(link, where, sizeof where - 1);
        where[length > 0 ? length : 0] = 0;
        int ours = below_root(where) && !left_out(where) && !fstat(handle, &found);
        inode_of[handle] = ours ? found.st_ino : 0;
        if (ours && fresh)
            note('C', home, found.st_ino, 0, name, NULL, NULL, 0);
        else if (ours && flags & O_TRUNC)
            note('T', found.st_ino, 0, 0, NULL, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&turn);
    return handle;
}

static mode_t mode_of(int flags, va_list list)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
}

#define OPEN(name)                                     \
    int name(const char *path, int flags, ...)         \
    {                                                  \
        va_list list;                                  \
        va_start(list, flags);                         \
        mode_t mode = mode_of(flags, list);            \
        va_end(list);                                  \
        return opened(AT_FDCWD, path, flags, mode);    \
    }
#define OPENAT(name)                                   \
    int name(int at, const char *path, int flags, ...) \
    {                                                  \
        va_list list;                                  \
        va_start(list, flags);                         \
        mode_t mode = mode_of(flags, list);            \
        va_end(list);                                  \
        return opened(at, path, flags, mode);          \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode)
{
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }

int close(int handle)
{
    if (handle >= 0 && handle < FILES)
        inode_of[handle] = 0;
    return REAL(close)(handle);
}

static int copied(int from, int to)
{
    if (to >= 0 && to < FILES)
        inode_of[to] = known(from);
    return to;
}
int dup(int handle) { return copied(handle, REAL(dup)(handle)); }
int dup2(int handle, int to) { return copied(handle, REAL(dup2)(handle, to)); }
int dup3(int handle, int to, int flags) { return copied(handle, REAL(dup3)(handle, to, flags)); }

static int controlled(int handle, int command, void *argument)
{
    int result = REAL(fcntl)(handle, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(handle, result) : result;
}
#define FCNTL(name)                                    \
    int name(int handle, int command, ...)             \
    {                                                  \
        va_list list;                                  \
        va_start(list, command);                       \
        void *argument = va_arg(list, void *);         \
        va_end(list);                                  \
        return controlled(handle, command, argument);  \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

/* at < 0: wherever the handle stands, which a file opened to append moves to its end. */
static ssize_t written(int handle, const void *data, size_t size, off_t at)
{
    __typeof__(&pwrite) real_pwrite = REAL(pwrite);
    __typeof__(&write) real_write = REAL(write);
    uint64_t inode = known(handle);
    int first = 0;
    if (!inode)
        return at < 0 ? real_write(handle, data, size) : real_pwrite(handle, data, size, at);
    if (no_room(&first)) {
        if (!first || size < 2) {
            errno = ENOSPC;
            return -1;
        }
        size /= 2;
    }
    pthread_mutex_lock(&turn);
    ssize_t done = at < 0 ? real_write(handle, data, size) : real_pwrite(handle, data, size, at);
    if (done > 0)
        note('W', inode, 0, at < 0 ? lseek(handle, 0, SEEK_CUR) - done : at, NULL, NULL, data, done);
    pthread_mutex_unlock(&turn);
    return done;
}
ssize_t write(int handle, const void *data, size_t size) { return written(handle, data, size, -1); }
ssize_t pwrite(int handle, const void *data, size_t size, off_t at)
{
    return written(handle, data, size, at);
}
ssize_t pwrite64(int handle, const void *data, size_t size, off_t at)
{
    return written(handle, data, size, at);
}

static ssize_t gathered(int handle, const struct iovec *parts, int count, off_t at)
{
    ssize_t whole = 0;
    for (int number = 0; number < count; number++) {
        ssize_t done = written(handle, parts[number].iov_base, parts[number].iov_len,
                               at < 0 ? at : at + whole);
        if (done < 0)
            return whole ? whole : done;
        whole += done;
        if ((size_t)done < parts[number].iov_len)
            break;
    }
    return whole;
}
ssize_t writev(int handle, const struct iovec *parts, int count)
{
    return known(handle) ? gathered(handle, parts, count, -1) : REAL(writev)(handle, parts, count);
}
ssize_t pwritev(int handle, const struct iovec *parts, int count, off_t at)
{
    return known(handle) ? gathered(handle, parts, count, at)
                         : REAL(pwritev)(handle, parts, count, at);
}
ssize_t pwritev64(int handle, const struct iovec *parts, int count, off_t at)
{
    return pwritev(handle, parts, count, at);
}

static int cut(int handle, off_t length)
{
    uint64_t inode = known(handle);
    pthread_mutex_lock(&turn);
    int result = REAL(ftruncate)(handle, length);
    if (!result && inode)
        note('T', inode, 0, length, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
int ftruncate(int handle, off_t length) { return cut(handle, length); }
int ftruncate64(int handle, off_t length) { return cut(handle, length); }

#define FLUSH(name)                                        \
    int name(int handle)                                   \
    {                                                      \
        uint64_t inode = known(handle);                    \
        if (!inode)                                        \
            return REAL(name)(handle);                     \
        note('B', inode, 0, 0, NULL, NULL, NULL, 0);       \
        note('F', inode, 0, 0, NULL, NULL, NULL, 0);       \
        return 0;                                          \
    }
FLUSH(fsync)
FLUSH(fdatasync)

static int renamed(int at, const char *path, int to, const char *target)
{
    char first[NAME_MAX + 1], second[NAME_MAX + 1];
    uint64_t here = place(at, path, first), there = place(to, target, second);
    pthread_mutex_lock(&turn);
    int result = REAL(renameat)(at, path, to, target);
    if (!result && (here || there))
        note(here && there ? 'R' : '!', here, there, 0, first, second, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
int rename(const char *path, const char *target)
{
    return renamed(AT_FDCWD, path, AT_FDCWD, target);
}
int renameat(int at, const char *path, int to, const char *target)
{
    return renamed(at, path, to, target);
}

static int removed(int at, const char *path, int flags)
{
    char name[NAME_MAX + 1];
    uint64_t home = place(at, path, name);
    pthread_mutex_lock(&turn);
    int result = REAL(unlinkat)(at, path, flags);
    if (!result && home)
        note('U', home, 0, 0, name, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int at, const char *path, mode_t mode)
{
    char name[NAME_MAX + 1];
    uint64_t home = place(at, path, name);
    struct stat found;
    if (home && !is_there(at, path) && no_room(NULL)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&turn);
    int result = REAL(mkdirat)(at, path, mode);
    if (!result && home && !fstatat(at, path, &found, 0))
        note('D', home, found.st_ino, 0, name, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return made(at, path, mode); }

/* What the replay could not follow. */
static void beyond(int handle, const char *what)
{
    if (known(handle))
        note('!', known(handle), 0, 0, what, NULL, NULL, 0);
}
void *mmap(void *at, size_t size, int rights, int flags, int handle, off_t offset)
{
    if (rights & PROT_WRITE && flags & MAP_SHARED)
        beyond(handle, "mmap");
    return REAL(mmap)(at, size, rights, flags, handle, offset);
}
void *mmap64(void *at, size_t size, int rights, int flags, int handle, off_t offset)
{
    return mmap(at, size, rights, flags, handle, offset);
}
ssize_t copy_file_range(int from, off_t *at, int to, off_t *where, size_t size, unsigned flags)
{
    beyond(to, "copy_file_range");
    return REAL(copy_file_range)(from, at, to, where, size, flags);
}
int fallocate(int handle, int mode, off_t at, off_t size)
{
    beyond(handle, "fallocate");
    return REAL(fallocate)(handle, mode, at, size);
}
int link(const char *path, const char *target)
{
    char name[NAME_MAX + 1];
    if (place(AT_FDCWD, target, name))
        note('!', 0, 0, 0, "link", NULL, NULL, 0);
    return REAL(link)(path, target);
}
