/*
 * Shows what axiond and a client make of limits that are reached and of
 * facilities that are not there: descriptors, memfds, a full disk under the
 * log, address space, locked memory, a directory that cannot be written, a
 * path that is too long.  Each is a fall-back or one named error, never a
 * crash, a hang or a loop that burns a core.
 *
 * (io_uring refused by seccomp is in tests/server/test_server_life.c.)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define DESCRIPTORS 24 /* that the limited engine may have */

static struct engine engine;
static char model[] = "/tmp/axion-limits-XXXXXX";
static const char *const none[] = {NULL};


/* ---- what the child does before it is axiond ---- */

static void
limit(int what, rlim_t value)
{
    struct rlimit r = {value, value};
    if (setrlimit(what, &r) != 0) {
        perror("setrlimit");
        _exit(127);
    }
}


static void
few_descriptors(void)
{
    limit(RLIMIT_NOFILE, DESCRIPTORS);
}


static void
no_locked_memory(void)
{
    limit(RLIMIT_MEMLOCK, 0);
}


static rlim_t address_space;


static void
little_address_space(void)
{
    limit(RLIMIT_AS, address_space);
}


static void
log_to_full_disk(void)
{
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0) {
        _exit(127);
    }
}


static void
no_memfd(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        _exit(127);
    }
}


/* Root may write everywhere; without this capability root may not. */
static void
no_override(void)
{
    (void)prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
}


/* ---- starting it ---- */

static void
start(void (*in_child)(void), const char *const *args)
{
    engine = (struct engine){0};
    engine_in_child = in_child;
    engine_start_on(&engine, model, args);
    engine_in_child = NULL;
}


static void
expect_refused(const char *words, int status)
{
    engine_wait_log(&engine, words);
    assert_int_equal(engine_wait(&engine), status);
}


static void
expect_serves(void)
{
    static struct stream s;
    struct request_options o;
    struct axion_client *c = client_open(&engine, "test");
    request_init(&o, "hello", 8);
    run_alone(c, &o, &s);
    axion_client_close(c);
}


/* ---- descriptors ---- */

static int
raw_connection(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, engine.socket);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)),
                     0);
    return fd;
}


static unsigned long
cpu_ticks(pid_t pid)
{
    char path[64], text[512];
    unsigned long user, system;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    assert_int_equal(sscanf(strrchr(text, ')') + 2,
                            "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
                            "%lu %lu",
                            &user, &system),
                     2);
    return user + system;
}


/* Time passes, as long as some other engine takes to come and go. */
static void
let_time_pass(void)
{
    static const char *const variant = "q4_0";
    struct engine other;
    for (int i = 0; i < 5; i++) {
        engine_start(&other, variant, none);
        engine_stop(&other);
    }
}


/* A message that is whole although nobody has read it yet. */
static struct axion_client *
client_in_backlog(void)
{
    struct axion_client_options o = {.path = engine.socket, .name = "late"};
    struct axion_client *c;
    assert_int_equal(axion_client_open(&c, &o), AXION_OK);
    assert_int_equal(axion_client_service(c), AXION_AGAIN);
    return c;
}


static void
wait_connected(struct axion_client *c)
{
    int rc;
    while ((rc = axion_client_service(c)) == AXION_AGAIN) {
        struct pollfd p = {.fd = axion_client_fd(c), .events = POLLIN};
        (void)poll(&p, 1, -1);
    }
    assert_int_equal(rc, AXION_OK);
}


static void
connections_wait_for_descriptors(const char *const *args)
{
    int fds[DESCRIPTORS];
    static struct stream s;
    struct request_options o;
    start(few_descriptors, args);
    engine_wait_loaded(&engine);
    struct axion_client *early = client_open(&engine, "early");
    for (int i = 0; i < DESCRIPTORS; i++) {
        fds[i] = raw_connection();
    }
    engine_wait_log(&engine, "accept: Too many open files");
    struct axion_client *late = client_in_backlog();
    unsigned long ticks = cpu_ticks(engine.pid);
    let_time_pass();
    assert_true(cpu_ticks(engine.pid) - ticks <= 3); /* of 10 ms */
    request_init(&o, "hello", 8);
    run_alone(early, &o, &s); /* who is in is served */
    for (int i = 0; i < DESCRIPTORS; i++) {
        close(fds[i]);
    }
    engine_wait_log(&engine, "connections are accepted again");
    wait_connected(late);
    run_alone(late, &o, &s);
    axion_client_close(early);
    axion_client_close(late);
    engine_stop(&engine);
}


static void
test_connections_wait_for_descriptors(void **state)
{
    (void)state;
    /* Idle is idle: no pages of KV are brought in. */
    connections_wait_for_descriptors(
        (const char *[]){"--kv-prefault", "off", NULL});
    connections_wait_for_descriptors((const char *[]){
        "--kv-prefault", "off", "--event-loop", "epoll", NULL});
}


/* Every number that is free below `limit` is in use then. */
static int
fill_descriptors(int *fds, int max)
{
    int n = 0;
    while (n < max && (fds[n] = dup(STDIN_FILENO)) >= 0) {
        n++;
    }
    assert_true(n < max && errno == EMFILE);
    return n;
}


static void
test_client_without_descriptors(void **state)
{
    enum { MANY = 256 };
    static int fds[MANY];
    struct rlimit before, small = {128, 128};
    struct axion_client_options o = {.name = "full"};
    struct axion_client *c;
    (void)state;
    start(NULL, none);
    engine_wait_loaded(&engine);
    o.path = engine.socket;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    int n = fill_descriptors(fds, MANY);
    /* None for the socket; then one, and none for the region. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(axion_client_open(&c, &o), AXION_ERR_SYSTEM);
        assert_int_equal(errno, EMFILE);
        close(fds[--n]);
    }
    /* Two: the region's is given back, and a third takes its place before
     * the load board arrives. */
    assert_int_equal(axion_client_open(&c, &o), AXION_OK);
    assert_true((fds[n++] = dup(STDIN_FILENO)) >= 0);
    int rc;
    while ((rc = axion_client_service(c)) == AXION_AGAIN) {
        struct pollfd p = {.fd = axion_client_fd(c), .events = POLLIN};
        (void)poll(&p, 1, -1);
    }
    assert_int_equal(rc, AXION_ERR_SYSTEM);
    assert_string_equal(axion_client_why(c),
                        "no descriptor left to receive one");
    axion_client_close(c);
    while (n > 0) {
        close(fds[--n]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    expect_serves();
    engine_stop(&engine);
}


/* ---- facilities ---- */

static void
test_engine_without_memfd(void **state)
{
    (void)state;
    start(no_memfd, none);
    expect_refused("cannot make the load board: Operation not permitted", 1);
}


static void
test_client_without_memfd(void **state)
{
    int status;
    (void)state;
    start(NULL, none);
    engine_wait_loaded(&engine);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct axion_client_options o = {.path = engine.socket};
        struct axion_client *c;
        no_memfd();
        _exit(axion_client_open(&c, &o) == AXION_ERR_SYSTEM && errno == EPERM
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    expect_serves();
    engine_stop(&engine);
}


static int
notify_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
    return fd;
}


static void
test_log_on_a_full_disk(void **state)
{
    char text[1024] = "", path[64];
    ssize_t n;
    (void)state;
    snprintf(path, sizeof(path), "%s.notify", model);
    int fd = notify_socket(path);
    start(log_to_full_disk, (const char *[]){"--log-level", "info", NULL});
    unsetenv("NOTIFY_SOCKET");
    while (strstr(text, "READY=1") == NULL) {
        n = recv(fd, text, sizeof(text) - 1, 0);
        assert_true(n > 0);
        text[n] = 0;
    }
    expect_serves();
    engine_stop(&engine);
    close(fd);
    unlink(path);
}


static void
test_little_address_space(void **state)
{
    char line[2048], last[2048];
    uint32_t refused = 0, served = 0;
    (void)state;
    if (getenv("AXION_SANITIZED") != NULL) {
        print_message("a sanitizer needs terabytes of address space\n");
        skip();
    }
    for (address_space = 16u << 20; served < 2; address_space *= 2) {
        assert_true(address_space < (rlim_t)1 << 40);
        start(little_address_space, none);
        last[0] = 0;
        while (fgets(line, sizeof(line), engine.log) != NULL &&
               strstr(line, "ready on") == NULL) {
            strcpy(last, line);
        }
        if (!feof(engine.log)) {
            expect_serves();
            engine_stop(&engine);
            served++;
        } else {
            printf("%llu MB: %s", (unsigned long long)address_space >> 20,
                   last);
            assert_int_equal(engine_wait(&engine), 1);
            assert_non_null(strstr(last, "[crit]"));
            refused++;
        }
    }
    assert_true(refused > 0);
}


static void
test_no_locked_memory(void **state)
{
    (void)state;
    start(no_locked_memory, none);
    engine_wait_loaded(&engine);
    expect_serves();
    engine_stop(&engine);
}


/* ---- the socket's place ---- */

static void
test_directory_that_cannot_be_written(void **state)
{
    char directory[] = "/tmp/axion-closed-XXXXXX", listen[128];
    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(chmod(directory, 0500), 0);
    snprintf(listen, sizeof(listen), "unix:%s/engine.sock", directory);
    start(no_override, (const char *[]){"--listen", listen, NULL});
    expect_refused("Permission denied", 1);
    assert_int_equal(rmdir(directory), 0);
}


static void
test_path_that_is_too_long(void **state)
{
    char listen[512] = "unix:/tmp/";
    (void)state;
    memset(listen + strlen(listen), 'x', 200);
    start(NULL, (const char *[]){"--listen", listen, NULL});
    /* an option that does not go */
    expect_refused("the socket's path must have 1 to 107 bytes", 2);
}


static int
prepare(void **state)
{
    (void)state;
    int fd = mkstemp(model);
    assert_true(fd >= 0);
    close(fd);
    return tiny_model_write(model, tiny_variant_find("q4_0"));
}


static int
clean(void **state)
{
    (void)state;
    return unlink(model);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_wait_for_descriptors),
        cmocka_unit_test(test_client_without_descriptors),
        cmocka_unit_test(test_engine_without_memfd),
        cmocka_unit_test(test_client_without_memfd),
        cmocka_unit_test(test_log_on_a_full_disk),
        cmocka_unit_test(test_little_address_space),
        cmocka_unit_test(test_no_locked_memory),
        cmocka_unit_test(test_directory_that_cannot_be_written),
        cmocka_unit_test(test_path_that_is_too_long),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, prepare, clean);
}
