/* What a service manager's environment and descriptors may hold, at every
 * bound: paths of NOTIFY_SOCKET, long and hostile statuses, values of LISTEN_*,
 * and sockets with and without names.  Runs under the sanitizers, too. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "engine/server/notify.h"
#include "engine/server/passed_socket.h"

#define PATH_ROOM sizeof(((struct sockaddr_un *) 0)->sun_path)


/* Binds a socket to an abstract name of this process and `bytes` in all, which
 * is written with its '@'. */
static int
abstract_socket(int type, char *name, size_t bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(bytes <= PATH_ROOM);
    memset(name, 'x', bytes);
    name[bytes] = '\0';
    int n = snprintf(name, bytes, "@axion-test-%d", (int) getpid());
    name[n] = bytes > (size_t) n ? 'x' : '\0';
    memcpy(address.sun_path, name, bytes);
    address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *) &address,
                          (socklen_t) (offsetof(struct sockaddr_un, sun_path) +
                                       bytes)), 0);
    return fd;
}


static void
test_paths_at_their_bounds(void **state)
{
    char path[PATH_ROOM + 2], text[64];
    struct ax_error err;
    (void) state;
    assert_int_equal(ax_notify(NULL, "READY=1", "x", &err), AXION_OK);
    assert_int_equal(ax_notify("", NULL, "x", &err), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_notify("/", NULL, "x", &err), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_notify("a/b", NULL, "x", &err), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_notify("/none", NULL, "x", &err), AXION_ERR_SYSTEM);

    memset(path, 'x', sizeof(path));
    path[0] = '@';
    path[PATH_ROOM] = '\0'; /* has no room for a terminator */
    assert_int_equal(ax_notify(path, NULL, "x", &err), AXION_ERR_BAD_OPTION);

    int fd = abstract_socket(SOCK_DGRAM, path, PATH_ROOM - 1);
    assert_int_equal(ax_notify(path, NULL, "it", &err), AXION_OK);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 9);
    assert_memory_equal(text, "STATUS=it", 9);
    close(fd);
}


static void
test_a_long_or_hostile_status_is_one_line(void **state)
{
    char path[PATH_ROOM + 1], status[2000], text[3000];
    struct ax_error err;
    (void) state;
    int fd = abstract_socket(SOCK_DGRAM, path, 40);
    assert_int_equal(ax_notify(path, "STOPPING=1", "a\nB=1\x7f\x01", &err),
                     AXION_OK);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 25);
    assert_memory_equal(text, "STOPPING=1\nSTATUS=a?B=1??", 25);
    memset(status, 'y', sizeof(status));
    status[sizeof(status) - 1] = '\0';
    assert_int_equal(ax_notify(path, "READY=1", status, &err), AXION_OK);
    ssize_t n = recv(fd, text, sizeof(text), 0);
    assert_in_range(n, 100, 1024);
    assert_memory_equal(text, "READY=1\nSTATUS=yyy", 18);
    close(fd);
}


static void
test_which_descriptor_is_passed(void **state)
{
    char self[16], other[16];
    struct ax_error err;
    int fd;
    (void) state;
    snprintf(self, sizeof(self), "%d", (int) getpid());
    snprintf(other, sizeof(other), "%d", (int) getpid() + 1);
    const struct {
        const char *pid, *fds;
        int rc, fd;
    } cases[] = {
        {NULL, NULL, AXION_OK, -1},
        {self, NULL, AXION_OK, -1},
        {NULL, "1", AXION_OK, -1},
        {self, "1", AXION_OK, AX_PASSED_SOCKET_FIRST},
        {self, "0", AXION_OK, -1},
        {other, "7", AXION_OK, -1},
        {self, "2", AXION_ERR_BAD_OPTION, -1},
        {self, "-1", AXION_ERR_BAD_OPTION, -1},
        {self, "1 ", AXION_ERR_BAD_OPTION, -1},
        {self, "", AXION_ERR_BAD_OPTION, -1},
        {"", "1", AXION_ERR_BAD_OPTION, -1},
        {self, "99999999999999999999", AXION_ERR_BAD_OPTION, -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(ax_passed_socket_find(&fd, cases[i].pid,
                                               cases[i].fds, &err),
                         cases[i].rc);
        assert_int_equal(fd, cases[i].fd);
    }
}


static void
test_a_taken_socket_has_its_name_and_flags(void **state)
{
    char name[PATH_ROOM + 1], path[128], small[8];
    struct ax_error err;
    (void) state;
    int fd = abstract_socket(SOCK_SEQPACKET, name, PATH_ROOM);
    assert_int_equal(ax_passed_socket_take(fd, path, sizeof(path), &err),
                     AXION_ERR_BAD_OPTION); /* does not listen */
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
    assert_int_equal(ax_passed_socket_take(fd, path, sizeof(path), &err),
                     AXION_OK);
    assert_string_equal(path, name);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(ax_passed_socket_take(fd, small, sizeof(small), &err),
                     AXION_OK);
    assert_int_equal(strlen(small), sizeof(small) - 1);
    close(fd);
    assert_int_equal(ax_passed_socket_take(fd, path, sizeof(path), &err),
                     AXION_ERR_BAD_OPTION);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_at_their_bounds),
        cmocka_unit_test(test_a_long_or_hostile_status_is_one_line),
        cmocka_unit_test(test_which_descriptor_is_passed),
        cmocka_unit_test(test_a_taken_socket_has_its_name_and_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
