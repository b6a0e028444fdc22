/* The wrapped calls, see faults.h.  All are alike: a call that is not the Nth
 * goes on to the real function. */
#include "tests/faults/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>


static int
fails_with(uint32_t kind, const char *call, int error)
{
    if (faults_hit(kind, call)) {
        errno = error;
        return 1;
    }
    return 0;
}


/* ---- memory ---- */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);


void *
__wrap_malloc(size_t size)
{
    return fails_with(FAULT_MEMORY, "malloc", ENOMEM) ? NULL
                                                      : __real_malloc(size);
}


void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);


void *
__wrap_calloc(size_t n, size_t size)
{
    return fails_with(FAULT_MEMORY, "calloc", ENOMEM) ? NULL
                                                      : __real_calloc(n, size);
}


void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);


void *
__wrap_realloc(void *p, size_t size)
{
    return fails_with(FAULT_MEMORY, "realloc", ENOMEM)
               ? NULL
               : __real_realloc(p, size);
}


void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);


void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails_with(FAULT_MEMORY, "aligned_alloc", ENOMEM)
               ? NULL
               : __real_aligned_alloc(alignment, size);
}


char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);


char *
__wrap_strdup(const char *s)
{
    return fails_with(FAULT_MEMORY, "strdup", ENOMEM) ? NULL : __real_strdup(s);
}


char *__real_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n);


char *
__wrap_strndup(const char *s, size_t n)
{
    return fails_with(FAULT_MEMORY, "strndup", ENOMEM) ? NULL
                                                       : __real_strndup(s, n);
}


/* ---- mappings ---- */

void *__real_mmap(void *p, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t off);


void *
__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t off)
{
    return fails_with(FAULT_MAPPING, "mmap", ENOMEM)
               ? MAP_FAILED
               : __real_mmap(p, n, prot, flags, fd, off);
}


int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);


int
__wrap_memfd_create(const char *name, unsigned flags)
{
    return fails_with(FAULT_MAPPING, "memfd_create", ENOMEM)
               ? -1
               : __real_memfd_create(name, flags);
}


int __real_ftruncate(int fd, off_t bytes);
int __wrap_ftruncate(int fd, off_t bytes);


int
__wrap_ftruncate(int fd, off_t bytes)
{
    return fails_with(FAULT_MAPPING, "ftruncate", ENOMEM)
               ? -1
               : __real_ftruncate(fd, bytes);
}


/* ---- files ---- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);


int
__wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    unsigned mode = flags & O_CREAT ? va_arg(args, unsigned) : 0;
    va_end(args);
    return fails_with(FAULT_READ, "open", EIO) ? -1
                                               : __real_open(path, flags, mode);
}


ssize_t __real_pread(int fd, void *p, size_t n, off_t off);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t off);


ssize_t
__wrap_pread(int fd, void *p, size_t n, off_t off)
{
    if (fails_with(FAULT_READ, "pread", EIO)) {
        return -1;
    }
    if (n > 1 && faults_hit(FAULT_SHORT_READ, "pread")) {
        n = 1;
    }
    return __real_pread(fd, p, n, off);
}


/* ---- sockets ---- */

ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);


ssize_t
__wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
    return fails_with(FAULT_RECEIVE, "recvmsg", ENOMEM)
               ? -1
               : __real_recvmsg(fd, m, flags);
}


ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);


ssize_t
__wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
    return fails_with(FAULT_SEND, "sendmsg", ENOBUFS)
               ? -1
               : __real_sendmsg(fd, m, flags);
}


ssize_t __real_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags);


ssize_t
__wrap_send(int fd, const void *p, size_t n, int flags)
{
    return fails_with(FAULT_SEND, "send", ENOBUFS)
               ? -1
               : __real_send(fd, p, n, flags);
}


/* ---- descriptors ---- */

int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);


int
__wrap_socket(int domain, int type, int protocol)
{
    return fails_with(FAULT_DESCRIPTOR, "socket", EMFILE)
               ? -1
               : __real_socket(domain, type, protocol);
}


int __real_accept4(int fd, struct sockaddr *a, socklen_t *bytes, int flags);
int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *bytes, int flags);


int
__wrap_accept4(int fd, struct sockaddr *a, socklen_t *bytes, int flags)
{
    return fails_with(FAULT_DESCRIPTOR, "accept4", EMFILE)
               ? -1
               : __real_accept4(fd, a, bytes, flags);
}


int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);


int
__wrap_eventfd(unsigned count, int flags)
{
    return fails_with(FAULT_DESCRIPTOR, "eventfd", EMFILE)
               ? -1
               : __real_eventfd(count, flags);
}


int __real_signalfd(int fd, const sigset_t *mask, int flags);
int __wrap_signalfd(int fd, const sigset_t *mask, int flags);


int
__wrap_signalfd(int fd, const sigset_t *mask, int flags)
{
    return fails_with(FAULT_DESCRIPTOR, "signalfd", EMFILE)
               ? -1
               : __real_signalfd(fd, mask, flags);
}


int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);


int
__wrap_epoll_create1(int flags)
{
    return fails_with(FAULT_DESCRIPTOR, "epoll_create1", EMFILE)
               ? -1
               : __real_epoll_create1(flags);
}


int __real_epoll_ctl(int fd, int op, int other, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int op, int other, struct epoll_event *event);


int
__wrap_epoll_ctl(int fd, int op, int other, struct epoll_event *event)
{
    return op == EPOLL_CTL_ADD &&
                   fails_with(FAULT_DESCRIPTOR, "epoll_ctl", ENOSPC)
               ? -1
               : __real_epoll_ctl(fd, op, other, event);
}


int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr,
                          void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr,
                          void *(*start)(void *), void *arg);


int
__wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr,
                      void *(*start)(void *), void *arg)
{
    return faults_hit(FAULT_THREAD, "pthread_create")
               ? EAGAIN
               : __real_pthread_create(t, attr, start, arg);
}
