/*
 * Makes the Nth call of a kind fail.
 *
 * wrappers.c stands in front of the C library by the linker's --wrap (rules.mk:
 * FAULT_WRAP), so it works under the sanitizers too, and libraries that are
 * linked statically (liburing, pcre2, jansson) go through it as our own code
 * does.  What the C library calls inside itself does not.
 *
 * The state is in shared memory: a test arms its own process, or, through
 * AXION_FAULTS_FD, an axiond that it has started, at any moment of its life.
 * Calls count from arming on, in all threads; one of them fails (and `repeat`
 * more), later ones work, which is what a passing shortage looks like.
 */
#ifndef TESTS_FAULTS_FAULTS_H
#define TESTS_FAULTS_FAULTS_H

#include <stdatomic.h>
#include <stdint.h>

enum fault_kind {
    FAULT_MEMORY = 1,      /* malloc and its like: NULL */
    FAULT_MAPPING = 2,     /* mmap, memfd_create, ftruncate: ENOMEM */
    FAULT_READ = 4,        /* open, pread: EIO */
    FAULT_SHORT_READ = 8,  /* pread: one byte */
    FAULT_RECEIVE = 16,    /* recvmsg: ENOMEM */
    FAULT_SEND = 32,       /* send, sendmsg: ENOBUFS */
    FAULT_DESCRIPTOR = 64, /* socket, accept, eventfd ...: EMFILE */
    FAULT_THREAD = 128,    /* pthread_create: EAGAIN */
};

struct faults {
    _Atomic uint32_t kinds;
    _Atomic int64_t countdown; /* calls before the one that fails; < 0: none */
    _Atomic uint32_t repeat;   /* so many after it fail as well */
    char call[24];             /* the one that failed */
};

/* This process's state; faults_share() has made it visible to children. */
extern struct faults *faults;

void faults_arm(uint32_t kinds, int64_t n);
/* 1 when the fault has happened since faults_arm(); none is armed now. */
int faults_disarm(void);
/* For wrappers: this call is the one that fails. */
int faults_hit(uint32_t kind, const char *call);

/* The state moves into a memfd that is inherited, and AXION_FAULTS_FD is
 * set. */
void faults_share(void);

#endif
