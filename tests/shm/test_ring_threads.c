/* Two threads that share one mapping of the region, so that ThreadSanitizer
 * sees both ends: no access without its order, and no wake-up lost in many
 * thousand sleeps. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "tests/shm/pair.h"
#include "tests/shm/stress.h"

/*
 * Linked with --wrap=mmap,--wrap=munmap: whoever maps a file a second time
 * gets the first mapping.  Two mappings of one region would look to TSan like
 * two memories that have nothing to do with each other.
 */
void *__real_mmap(void *, size_t, int, int, int, off_t);
int __real_munmap(void *, size_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
int __wrap_munmap(void *, size_t);

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    ino_t inode;
    void *base;
    int users;
} shared;


void *
__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd,
            off_t offset)
{
    struct stat st;

    if (fd < 0 || (flags & MAP_SHARED) == 0 || fstat(fd, &st) != 0) {
        return __real_mmap(at, bytes, protection, flags, fd, offset);
    }
    pthread_mutex_lock(&shared_lock);
    if (shared.users == 0) {
        shared.base = __real_mmap(at, bytes, protection, flags, fd, offset);
        shared.inode = st.st_ino;
    }
    void *base = shared.inode == st.st_ino ? shared.base : MAP_FAILED;
    shared.users++;
    pthread_mutex_unlock(&shared_lock);
    return base;
}


int
__wrap_munmap(void *base, size_t bytes)
{
    int rc = 0;

    pthread_mutex_lock(&shared_lock);
    if (base != shared.base || --shared.users == 0) {
        rc = __real_munmap(base, bytes);
    }
    pthread_mutex_unlock(&shared_lock);
    return rc;
}


struct engine {
    int fd;
    struct axion_channel_options options;
    struct stress stress;
};


static void *
be_engine(void *context)
{
    struct engine *engine = context;
    struct axion_channel *channel;

    if (axion_channel_open(&channel, engine->fd, &engine->options) !=
        AXION_OK) {
        engine->stress.fault = "open";
        return NULL;
    }
    stress_engine(channel, &engine->stress);
    axion_channel_close(channel);
    return NULL;
}


static uint32_t
scaled(uint32_t n)
{
    return getenv("AXION_SANITIZED") != NULL ? n / 10 : n;
}


static void
run(const struct axion_client_options *options, struct stress stress)
{
    struct engine engine = {.options = {.stream_buffer_bytes = 1024}};
    struct axion_client *client;
    pthread_t thread;
    int fds[2];

    stress.streams = scaled(stress.streams);
    stress.seed = test_seed();
    engine.stress = stress;
    engine.stress.in_flight = options->streams;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds),
                     0);
    engine.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, be_engine, &engine), 0);
    assert_int_equal(axion_client_open_fd(&client, fds[0], options), AXION_OK);
    while (axion_client_service(client) == AXION_AGAIN) {
    }
    stress_client(client, &stress);
    /* The engine sees the end of file, not a mapping that is gone. */
    shutdown(fds[0], SHUT_RDWR);
    pthread_join(thread, NULL);
    axion_client_close(client);
    assert_int_equal(shared.users, 0);
    if (stress.fault != NULL || engine.stress.fault != NULL) {
        fail_msg("client: %s, engine: %s",
                 stress.fault ? stress.fault : "right",
                 engine.stress.fault ? engine.stress.fault : "right");
    }
    print_message("%u streams, client slept %llu times, engine %llu\n",
                  stress.streams, (unsigned long long)stress.sleeps,
                  (unsigned long long)engine.stress.sleeps);
}


static void
test_many_streams(void **state)
{
    const struct axion_client_options options = {
        .streams = 16, .arena_bytes = AXION_ARENA_BYTES_MIN};
    const struct stress stress = {.streams = 10000,
                                  .in_flight = 16,
                                  .payload = 1000,
                                  .idle_turns = 20,
                                  .disturb = 1};

    (void)state;
    run(&options, stress);
}


static void
test_no_wakeup_is_lost(void **state)
{
    const struct axion_client_options options = {
        .streams = 2,
        .credit = 2,
        .sq_entries = AXION_SQ_ENTRIES_MIN,
        .arena_bytes = AXION_ARENA_BYTES_MIN};
    struct stress stress = {
        .streams = 40000, .in_flight = 2, .payload = 40, .disturb = 1};

    (void)state;
    for (uint32_t idle = 0; idle < 4; idle++) {
        stress.idle_turns = idle * idle * 3;
        run(&options, stress);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_no_wakeup_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
