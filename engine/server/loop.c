/* Watches and the choice of the backend, see loop.h. */
#include "engine/server/loop_private.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 64u

struct ax_loop {
    const struct ax_loop_backend *backend;
    void *state;
    char note[AX_ERROR_TEXT];
    struct ax_watch watches[AX_LOOP_WATCHES_MAX];
};


static uint64_t
key_of(const struct ax_loop *loop, uint32_t place)
{
    return (uint64_t)loop->watches[place].generation << 32 | place;
}


int
ax_loop_open(struct ax_loop **out, const char *kind, struct ax_error *err)
{
    *out = NULL;
    struct ax_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "event loop: no memory");
    }
    for (uint32_t i = 0; i < AX_LOOP_WATCHES_MAX; i++) {
        loop->watches[i].fd = -1;
    }
    bool automatic = strcmp(kind, "auto") == 0;
    struct ax_error why = {0};
    int rc = AXION_ERR_SYSTEM;
    if (automatic || strcmp(kind, "io_uring") == 0) {
        loop->backend = &ax_loop_uring;
        rc = loop->backend->open(&loop->state, &why);
    }
    if (rc != AXION_OK && (automatic || strcmp(kind, "epoll") == 0)) {
        snprintf(loop->note, sizeof(loop->note), "%s", why.text);
        loop->backend = &ax_loop_epoll;
        rc = loop->backend->open(&loop->state, &why);
    }
    if (rc != AXION_OK) {
        free(loop);
        return ax_error_set(err, rc, "event loop: %s", why.text);
    }
    *out = loop;
    return AXION_OK;
}


void
ax_loop_close(struct ax_loop *loop)
{
    if (loop != NULL) {
        loop->backend->close(loop->state);
        free(loop);
    }
}


const char *
ax_loop_name(const struct ax_loop *loop)
{
    return loop->backend->name;
}


const char *
ax_loop_note(const struct ax_loop *loop)
{
    return loop->note;
}


int
ax_loop_watch(struct ax_loop *loop, int fd, void *tag)
{
    assert(fd >= 0 && tag != NULL);
    for (uint32_t i = 0; i < AX_LOOP_WATCHES_MAX; i++) {
        struct ax_watch *w = &loop->watches[i];
        if (w->fd == -1) {
            w->fd = fd;
            w->generation = (w->generation + 1) & 0x7fffffff;
            w->tag = tag;
            int rc = loop->backend->add(loop->state, fd, key_of(loop, i));
            w->fd = rc == AXION_OK ? fd : -1;
            return rc;
        }
    }
    return AXION_ERR_NO_MEMORY;
}


void
ax_loop_unwatch(struct ax_loop *loop, int fd)
{
    for (uint32_t i = 0; i < AX_LOOP_WATCHES_MAX; i++) {
        if (loop->watches[i].fd == fd) {
            loop->backend->remove(loop->state, fd, key_of(loop, i));
            loop->watches[i].fd = -1;
            return;
        }
    }
}


/* The watch of a key, NULL if it is gone. */
static struct ax_watch *
watch_of(struct ax_loop *loop, uint64_t key)
{
    uint32_t place = (uint32_t)key;
    if (place >= AX_LOOP_WATCHES_MAX || loop->watches[place].fd == -1 ||
        key_of(loop, place) != key) {
        return NULL;
    }
    return &loop->watches[place];
}


uint32_t
ax_loop_wait(struct ax_loop *loop, int64_t timeout_us, void **tags,
             uint32_t max)
{
    uint64_t keys[KEYS_MAX];
    uint32_t n = loop->backend->wait(loop->state, timeout_us, keys,
                                     max < KEYS_MAX ? max : KEYS_MAX);
    uint32_t n_tags = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i] & ~AX_LOOP_REARM;
        struct ax_watch *w = watch_of(loop, key);
        if (w == NULL) {
            continue;
        }
        if (keys[i] & AX_LOOP_REARM) {
            (void)loop->backend->add(loop->state, w->fd, key);
        }
        tags[n_tags++] = w->tag;
    }
    return n_tags;
}
