/* What a hostile program tries in a container. Compiled by cli_attacks.rs; static, for images without libraries.
 *
 *   attacker escape FILE   tries each way out, also to FILE of the host; prints those that work; exit code 0 when none does
 *   attacker swap A B      swaps two names for ever
 *   attacker connect NAME  connects to an abstract socket; exit code 0 when it works
 *   attacker hand PATH     hands its output to whoever has the socket at PATH
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static int escaped;

#define TRY(call) \
    do { \
        if ((long)(call) != -1) { puts(#call); escaped = 1; } \
    } while (0)

static void mounts(void)
{
    TRY(mount("x", "/tmp", "tmpfs", 0, 0));
    TRY(mount(0, "/", 0, MS_REMOUNT | MS_BIND, 0));
    TRY(mount("/", "/tmp", 0, MS_BIND, 0));
    TRY(umount2("/proc", MNT_DETACH));
    TRY(umount2("/proc/sys", MNT_DETACH));
    TRY(syscall(SYS_fsopen, "proc", 0));
    TRY(syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY(syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/root", 0));
    TRY(syscall(SYS_pivot_root, ".", "."));
}

static void namespaces(void)
{
    TRY(unshare(CLONE_NEWUSER));
    TRY(unshare(CLONE_NEWNS));
    TRY(syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0));
    TRY(setns(open("/proc/1/ns/mnt", O_RDONLY), 0));
    TRY(setns(open("/proc/1/ns/net", O_RDONLY), 0));
}

static void devices_and_kernel_files(void)
{
    mknod("/disk", S_IFBLK | 0600, makedev(8, 0));
    mknod("/memory", S_IFCHR | 0600, makedev(1, 1));
    TRY(open("/disk", O_RDONLY));
    TRY(open("/memory", O_RDONLY));
    TRY(open("/proc/sysrq-trigger", O_WRONLY));
    TRY(open("/proc/sys/kernel/core_pattern", O_WRONLY));
    TRY(open("/proc/sys/vm/overcommit_memory", O_WRONLY));
    TRY(open("/sys/kernel/uevent_helper", O_WRONLY));
    TRY(open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY));
    TRY(open("/sys/fs/cgroup/release_agent", O_WRONLY));
    TRY(open("/sys/fs/cgroup/cgroup.procs", O_WRONLY));
    TRY(open("/proc/self/exe", O_WRONLY | O_TRUNC));
    TRY(syscall(SYS_open_by_handle_at, AT_FDCWD, 0, 0));
}

static void other_ways(void)
{
    TRY(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    TRY(syscall(SYS_add_key, "user", "x", "y", 1, -3));
    TRY(socket(AF_INET, SOCK_RAW, 1));
    TRY(socket(AF_PACKET, SOCK_RAW, 0));
    TRY(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0));
    TRY(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0));
    TRY(syscall(SYS_bpf, 0, 0, 0));
    TRY(syscall(SYS_io_uring_setup, 1, 0));
    TRY(syscall(SYS_userfaultfd, 0));
    TRY(syscall(SYS_init_module, 0, 0, ""));
    TRY(syscall(SYS_kexec_load, 0, 0, 0, 0));
    TRY(syscall(SYS_swapon, "/x", 0));
    TRY(syscall(SYS_sethostname, "x", 1));
    TRY(syscall(SYS_syslog, 3, 0, 0));
    TRY(syscall(SYS_acct, 0));
}

/* The oldest trick: leave a root by a directory that was opened before it. */
static void chroot_out(const char *outside)
{
    int root = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/tmp/jail", 0700);
    if (chroot("/tmp/jail") || fchdir(root))
        return;
    for (int i = 0; i < 64; i++)
        if (chdir(".."))
            return;
    TRY(access(outside + 1, F_OK));
}

static int connect_to(const char *name)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + 1, name, sizeof to.sun_path - 2);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to, size) ? 1 : 0;
}

static int hand_output(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&to, sizeof to))
        return 1;
    int output[2] = {1, 2};
    char byte = 0, control[CMSG_SPACE(sizeof output)] = {0};
    struct iovec content = {&byte, 1};
    struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof output);
    memcpy(CMSG_DATA(header), output, sizeof output);
    return sendmsg(s, &message, 0) != 1;
}

int main(int count, char **words)
{
    if (count == 4 && !strcmp(words[1], "swap"))
        for (;;)
            syscall(SYS_renameat2, AT_FDCWD, words[2], AT_FDCWD, words[3], 2 /* RENAME_EXCHANGE */);
    if (count == 3 && !strcmp(words[1], "connect"))
        return connect_to(words[2]);
    if (count == 3 && !strcmp(words[1], "hand"))
        return hand_output(words[2]);
    if (count != 3 || strcmp(words[1], "escape"))
        return 2;
    mounts();
    namespaces();
    devices_and_kernel_files();
    other_ways();
    chroot_out(words[2]);
    return escaped;
}
