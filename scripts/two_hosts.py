#!/usr/bin/env python3
"""Runs a command on the first of two hosts that this machine plays, for Open MPI's mpirun on both.

Each host is a network namespace with a name of its own, joined to the other by a line over which every packet takes
--delay milliseconds. `mpirun --host 10.77.0.1,10.77.0.2 PROGRAM` in the command starts a process on each. With --disk
FOLDER that folder is another one on each host: FOLDER-1 and FOLDER-2.

The line is a pair of TUN devices with this script in between, because few kernels have netem; with --direct it is a pair
of Ethernet devices of the kernel's, and as fast as these are. Needs root, /dev/net/tun and the commands ip, nsenter and
mount; ends with 77, and says why, where one of them is missing.

    scripts/two_hosts.py --delay 0.1 ping -c 5 10.77.0.2
"""

import argparse
import collections
import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
# From <sched.h> and <linux/if_tun.h>.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Few packets, so that the script keeps up.
MTU = 65000
LINE = "10.77.0.0/30"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="of each packet, each way")
    parser.add_argument("--direct", action="store_true", help="a line without this script in between, and without delay")
    parser.add_argument("--disk", metavar="FOLDER", help="a folder that the hosts do not share")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if args.direct and args.delay:
        parser.error("--direct: expected no --delay, which only this script in between makes")
    skip_if(what_is_missing())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder, here, hosts, ends = tempfile.mkdtemp(), os.getcwd(), [], []
    try:
        for number in (1, 2):
            hosts.append(make_host(number, args.disk))
            if not args.direct:
                ends.append(make_end(number))
        if args.direct:
            join(*hosts)
        environment = dict(os.environ, **mpi_variables(folder, hosts[1]))
        command = [*on(hosts[0]), f"--wdns={here}", *args.command]
        with subprocess.Popen(command, env=environment) as running:
            try:
                carry(ends, args.delay / 1e3, os.pidfd_open(running.pid))
            finally:
                end_command(running)
        sys.exit(running.returncode if running.returncode >= 0 else 128 - running.returncode)
    except PermissionError as error:
        skip_if(f"no host can be made here: {error}")
    finally:
        for host in hosts:
            host.kill()
            host.wait()
        shutil.rmtree(folder)


def skip_if(reason):
    if reason:
        print(f"skipped: {reason}", file=sys.stderr)
        sys.exit(SKIPPED)


def what_is_missing():
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    for command in ("ip", "nsenter", "mount"):
        if not shutil.which(command):
            return f"the command {command} is not installed"
    return None


def system(name, *arguments):
    """Calls a function of the C library that this Python does not have."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def make_host(number, disk):
    """A process that keeps the host in being, in whose namespaces this script is from now on."""
    system("unshare", CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET)
    socket.sethostname(f"host{number}")
    run("mount", "--make-rprivate", "/")
    if disk:
        if number == 2:
            run("umount", disk)  # the first host's, which this namespace is a copy of
        run("mount", "--bind", f"{disk}-{number}", disk)
    run("ip", "link", "set", "lo", "up")
    return subprocess.Popen(["sleep", "infinity"])


def make_end(number):
    """The end of the line in this host, which this script carries on."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"line", IFF_TUN | IFF_NO_PI))
    run("ip", "address", "add", f"10.77.0.{number}/30", "dev", "line")
    run("ip", "link", "set", "line", "up", "mtu", str(MTU), "txqueuelen", "10000")
    return end


def join(first, second):
    """Joins the hosts by a line of the kernel's."""
    run("ip", "link", "add", "line", "type", "veth", "peer", "name", "line", "netns", str(first.pid))
    for number, host in ((1, first), (2, second)):
        run(*on(host), "ip", "address", "add", f"10.77.0.{number}/30", "dev", "line")
        run(*on(host), "ip", "link", "set", "line", "up")


def end_command(running):
    """Ends a command that goes on because this script was told to end."""
    running.terminate()
    try:
        running.wait(timeout=5)
    except subprocess.TimeoutExpired:
        running.kill()


def run(*command):
    subprocess.run(command, check=True)


def on(host):
    """The beginning of a command that is to run on a host."""
    return ["nsenter", f"--target={host.pid}", "--net", "--uts", "--mount"]


def mpi_variables(folder, second):
    """Has Open MPI reach the second host, and speak over the line alone."""
    agent = os.path.join(folder, "agent")
    with open(agent, "w", encoding="utf-8") as file:
        # Called as ssh is: with the host's name, and what to run there.
        file.write(f'#!/bin/sh\nshift\nexec {" ".join(on(second))} sh -c "$*"\n')
    os.chmod(agent, 0o755)
    return {
        "OMPI_MCA_plm_rsh_agent": agent,
        "OMPI_MCA_btl": "self,tcp",
        "OMPI_MCA_btl_tcp_if_include": LINE,
        "OMPI_MCA_oob_tcp_if_include": LINE,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def carry(ends, delay, ended):
    """Carries packets from each end to the other, `delay` seconds late, until the descriptor `ended` is readable."""
    try:
        # Before the processes on the hosts, which keep all processors busy; and exact to the microsecond.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError as error:
        print(f"two_hosts: the line may be slower than it says, in the scheduler's ordinary class: {error}", file=sys.stderr)
    other = dict(zip(ends, reversed(ends)))
    under_way = collections.deque()
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        readable = select.select([*ends, ended], [], [], wait)[0]
        if ended in readable:
            return
        for end in readable:
            take(end, other[end], delay, under_way)
        while under_way and under_way[0][0] <= time.monotonic():
            _, to, packet = under_way.popleft()
            try:
                os.write(to, packet)
            except OSError:
                pass  # a full queue loses packets on any line, and TCP sends them again


def take(end, to, delay, under_way):
    """Reads the packets that are there."""
    while True:
        try:
            packet = os.read(end, MTU)
        except BlockingIOError:
            return
        under_way.append((time.monotonic() + delay, to, packet))


if __name__ == "__main__":
    main()
