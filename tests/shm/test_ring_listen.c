/* The listening socket: what a wrong --listen says, what becomes of a socket
 * file that is stale, live, going, or no socket, and mode and group. */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/shm/pair.h"

static char folder[64];


static int
make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/axion-listen-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}


static int
remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}


static int
listen_on(const char *rest, int *fd, char *path, char *why)
{
    char spec[400];

    snprintf(spec, sizeof(spec), "unix:%s/%s", folder, rest);
    return axion_listen(spec, fd, path, 108, why, 200);
}


static void
refused(const char *spec, const char *words)
{
    char path[108];
    char why[200];
    int fd;

    assert_int_equal(
        axion_listen(spec, &fd, path, sizeof(path), why, sizeof(why)),
        AXION_ERR_BAD_OPTION);
    assert_int_equal(fd, -1);
    if (strstr(why, words) == NULL) {
        fail_msg("\"%s\" says \"%s\"", spec, why);
    }
}


static void
test_wrong_specs(void **state)
{
    char longer[200] = "unix:";

    (void)state;
    refused("", "unix:");
    refused("tcp:1.2.3.4", "unix:");
    refused("unix:", "1 to 107 bytes");
    refused("unix:,mode=0600", "1 to 107 bytes");
    refused("unix:x,mode=", "octal");
    refused("unix:x,mode=8", "octal");
    refused("unix:x,mode=1777", "octal");
    refused("unix:x,mode=-1", "octal");
    refused("unix:x,mode=660x", "octal");
    refused("unix:x,group=", "no group");
    refused("unix:x,group=no-such-group-here", "no group");
    refused("unix:x,owner=me", "unknown parameter");
    refused("unix:x,", "unknown parameter");
    memset(longer + 5, 'x', 108);
    refused(longer, "1 to 107 bytes");
    assert_int_not_equal(access("x", F_OK), 0);
}


static void
test_mode_group_and_connections(void **state)
{
    const struct axion_client_options options = {.streams = 8};
    struct axion_client_options with_path = options;
    struct axion_client *client;
    struct stat st;
    char spec[100];
    char path[108];
    char why[200];
    int fd;

    (void)state;
    struct group *group = getgrgid(getgid());
    assert_non_null(group);
    snprintf(spec, sizeof(spec), "a.sock,mode=0640,group=%s", group->gr_name);
    assert_int_equal(listen_on(spec, &fd, path, why), AXION_OK);
    assert_string_equal(why, "");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_gid, getgid());
    with_path.path = path;
    assert_int_equal(axion_client_open(&client, &with_path), AXION_OK);
    int one = accept(fd, NULL, NULL);
    assert_true(one >= 0);
    close(one);
    axion_client_close(client);
    close(fd);
    unlink(path);
}


static void
test_path_that_is_taken(void **state)
{
    char path[108];
    char why[200];
    int first;
    int second;

    (void)state;
    assert_int_equal(listen_on("a.sock", &first, path, why), AXION_OK);
    assert_int_equal(listen_on("a.sock", &second, path, why), AXION_ERR_SYSTEM);
    assert_non_null(strstr(why, "in use"));

    /* A killed engine's: replaced. */
    close(first);
    assert_int_equal(listen_on("a.sock", &second, path, why), AXION_OK);
    close(second);
    unlink(path);

    FILE *file = fopen(path, "w");
    fclose(file);
    assert_int_equal(listen_on("a.sock", &first, path, why), AXION_ERR_SYSTEM);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    assert_int_equal(listen_on("no/such/folder", &first, path, why),
                     AXION_ERR_SYSTEM);
    assert_non_null(strstr(why, "No such file"));
}


/* Its process is dead and reaped; we hold it, as the kernel does for a while
 * where there was an io_uring. */
static int
socket_of_a_dead_process(struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int status;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "%s/c.sock", folder);
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(listen(fd, 8));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return fd;
}


/* Who starts anew behind a kill waits until the old socket is closed. */
static void
test_killed_a_moment_ago(void **state)
{
    struct sockaddr_un address;
    char path[108];
    char why[200];
    int fd, status;

    (void)state;
    int old = socket_of_a_dead_process(&address);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(old);
        _exit(listen_on("c.sock", &fd, path, why) == AXION_OK ? 0 : 1);
    }
    int looks = accept(old, NULL, NULL); /* it has found somebody there */
    assert_true(looks >= 0);
    close(looks);
    close(old);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    unlink(address.sun_path);
}


/* A dead process's socket that others go on holding is theirs. */
static void
test_inherited_socket(void **state)
{
    struct sockaddr_un address;
    char path[108];
    char why[200];
    int fd;

    (void)state;
    int theirs = socket_of_a_dead_process(&address);
    assert_int_equal(listen_on("c.sock", &fd, path, why), AXION_ERR_SYSTEM);
    assert_non_null(strstr(why, "in use"));
    assert_int_equal(access(address.sun_path, F_OK), 0);
    unlink(address.sun_path);
    close(theirs);
}


/* A socket of another kind lives there: not ours to remove. */
static void
test_foreign_socket(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[108];
    char why[200];
    int fd;

    (void)state;
    int stream = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/b.sock", folder);
    assert_int_equal(bind(stream, (struct sockaddr *)&address, sizeof(address)),
                     0);
    assert_int_equal(listen(stream, 1), 0);
    assert_int_equal(listen_on("b.sock", &fd, path, why), AXION_ERR_SYSTEM);
    assert_int_equal(access(address.sun_path, F_OK), 0);
    unlink(address.sun_path);
    close(stream);
}


int
main(void)
{
#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_wrong_specs),
        TEST(test_mode_group_and_connections),
        TEST(test_path_that_is_taken),
        TEST(test_killed_a_moment_ago),
        TEST(test_inherited_socket),
        TEST(test_foreign_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
