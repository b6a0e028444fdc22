/* Two processes, every byte checked, awake and asleep: rings of many sizes
 * and credits, small stream buffers, pauses, top-ups, cancellations.  Prints
 * the rate of each. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/shm/pair.h"
#include "tests/shm/stress.h"

struct setting {
    const char *name;
    struct axion_client_options client;
    struct axion_channel_options channel;
    struct stress stress;
};


static double
seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}


/* Bounds the work; AXION_STRESS=N multiplies it. */
static uint32_t
scaled(uint32_t n)
{
    const char *text = getenv("AXION_STRESS");
    int factor = text != NULL ? atoi(text) : 1;

    if (getenv("AXION_SANITIZED") != NULL) {
        n /= 10;
    }
    return factor > 1 ? n * (uint32_t)factor : n;
}


static void
be_engine(int fd, const struct setting *setting)
{
    struct stress stress = setting->stress;
    struct axion_channel *channel;

    stress.in_flight = setting->client.streams;
    if (axion_channel_open(&channel, fd, &setting->channel) != AXION_OK) {
        _exit(2);
    }
    stress_engine(channel, &stress);
    axion_channel_close(channel);
    if (stress.fault != NULL) {
        print_error("engine: %s\n", stress.fault);
        _exit(1);
    }
    _exit(0);
}


static void
run(struct setting setting)
{
    struct stress stress = setting.stress;
    struct axion_client *client;
    int fds[2];
    int status;

    setting.stress.streams = stress.streams = scaled(stress.streams);
    setting.stress.seed = stress.seed = test_seed();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds),
                     0);
    pid_t engine = fork();
    assert_true(engine >= 0);
    if (engine == 0) {
        close(fds[0]);
        be_engine(fds[1], &setting);
    }
    close(fds[1]);
    assert_int_equal(axion_client_open_fd(&client, fds[0], &setting.client),
                     AXION_OK);
    while (axion_client_service(client) == AXION_AGAIN) {
    }
    double start = seconds();
    stress_client(client, &stress);
    double took = seconds() - start;
    axion_client_close(client);
    assert_int_equal(waitpid(engine, &status, 0), engine);
    if (stress.fault != NULL) {
        fail_msg("client: %s", stress.fault);
    }
    assert_int_equal(status, 0);
    print_message("%-22s %7.0f streams/s %8.0f events/s %6.1f MB/s of text, "
                  "%llu sleeps, %llu cancelled\n",
                  setting.name, stress.streams / took,
                  (double)stress.events / took,
                  (double)stress.text_bytes / took / 1e6,
                  (unsigned long long)stress.sleeps,
                  (unsigned long long)stress.cancelled);
}


static void
test_awake(void **state)
{
    (void)state;
    run((struct setting){
        .name = "awake, 64 streams",
        .client = {.streams = 64},
        .stress = {.streams = 20000,
                   .in_flight = 64,
                   .payload = 2000,
                   .idle_turns = 2000,
                   .disturb = 1},
    });
}


static void
test_asleep(void **state)
{
    (void)state;
    run((struct setting){
        .name = "asleep, 64 streams",
        .client = {.streams = 64},
        .stress =
            {.streams = 20000, .in_flight = 64, .payload = 2000, .disturb = 1},
    });
}


/* One stream at a time: both sides sleep as often as they can. */
static void
test_ping_pong(void **state)
{
    (void)state;
    run((struct setting){
        .name = "asleep, one stream",
        .client = {.streams = 1},
        .stress = {.streams = 20000, .in_flight = 1, .payload = 64},
    });
}


/* Everything as small as it may be: all is full all the time. */
static void
test_smallest(void **state)
{
    (void)state;
    run((struct setting){
        .name = "smallest rings",
        .client = {.streams = 32,
                   .credit = 2,
                   .sq_entries = AXION_SQ_ENTRIES_MIN,
                   .cq_entries = AXION_CQ_ENTRIES_MIN,
                   .arena_bytes = AXION_ARENA_BYTES_MIN},
        .channel = {.stream_buffer_bytes = 512},
        .stress =
            {.streams = 5000, .in_flight = 32, .payload = 6000, .disturb = 1},
    });
}


static void
test_largest_credit(void **state)
{
    (void)state;
    run((struct setting){
        .name = "credit of 64",
        .client = {.streams = 16, .credit = AXION_CREDIT_MAX},
        .stress = {.streams = 10000,
                   .in_flight = 16,
                   .payload = 6000,
                   .idle_turns = 3,
                   .disturb = 1},
    });
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_awake),          cmocka_unit_test(test_asleep),
        cmocka_unit_test(test_ping_pong),      cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_largest_credit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
