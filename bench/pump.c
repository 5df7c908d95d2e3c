/* SPDX-License-Identifier: Apache-2.0
 * The lab's own limit for bench/transfer_netns.py: datagrams to a multicast group by UDP_SEGMENT, taken in by UDP_GRO and
 * recvmmsg; no protocol, no disk, no look at the content.
 *   pump send GROUP PORT ADDRESS PAYLOAD SEGMENTS BIT_S SECONDS   prints "datagrams began ended cpu_s"; BIT_S 0: no pacing
 *   pump recv GROUP PORT ADDRESS PAYLOAD      prints "datagrams last cpu_s" for each line it reads, and counts from 0 again
 * Times are seconds of CLOCK_MONOTONIC, which all namespaces of a machine share. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SEGMENT_OPTION = 103, GRO_OPTION = 104, BATCH = 16, TRAIN_BYTES = 65536 }; /* <linux/udp.h> */
static const int BUFFER_BYTES = 4 << 20; /* the kernel doubles it */
static const double SHORTEST_SLEEP_S = 100e-6;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int send_all(int sock, struct sockaddr_in group, int payload, int segments, double bit_s, double seconds) {
    static char train[TRAIN_BYTES];
    double began = now_s(), cpu = cpu_s(), now = began;
    unsigned long long datagrams = 0;
    if (setsockopt(sock, IPPROTO_UDP, SEGMENT_OPTION, &payload, sizeof payload)) return fail("UDP_SEGMENT");
    setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &BUFFER_BYTES, sizeof BUFFER_BYTES);
    if (connect(sock, (struct sockaddr *)&group, sizeof group)) return fail("connect");
    while ((now = now_s()) - began < seconds) {
        double early = bit_s > 0 ? datagrams * payload * 8.0 / bit_s - (now - began) : 0;
        if (early > SHORTEST_SLEEP_S) {
            struct timespec rest = {0, early * 1e9};
            nanosleep(&rest, NULL);
            continue;
        }
        if (send(sock, train, (size_t)payload * segments, 0) > 0) datagrams += segments;
        else if (errno != ENOBUFS) return fail("send");
    }
    printf("%llu %.6f %.6f %.6f\n", datagrams, began, now, cpu_s() - cpu);
    return 0;
}

static int receive_all(int sock, int payload) {
    static char trains[BATCH][TRAIN_BYTES];
    struct mmsghdr messages[BATCH];
    struct iovec places[BATCH];
    struct pollfd ready[2] = {{.fd = sock, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    unsigned long long datagrams = 0;
    double last = 0, cpu = cpu_s();
    int on = 1;
    char line[16];

    setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &BUFFER_BYTES, sizeof BUFFER_BYTES);
    if (setsockopt(sock, IPPROTO_UDP, GRO_OPTION, &on, sizeof on)) return fail("UDP_GRO");
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        places[i] = (struct iovec){trains[i], TRAIN_BYTES};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &places[i], .msg_iovlen = 1};
    }
    for (;;) {
        if (poll(ready, 2, -1) < 0) return fail("poll");
        int got = recvmmsg(sock, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) datagrams += messages[i].msg_len / payload;
        if (got > 0) last = now_s();
        if (ready[1].revents) {
            if (!fgets(line, sizeof line, stdin)) return 0;
            printf("%llu %.6f %.6f\n", datagrams, last, cpu_s() - cpu);
            fflush(stdout);
            datagrams = 0, cpu = cpu_s();
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    int is_sender = !strcmp(argv[1], "send"), sock = socket(AF_INET, SOCK_DGRAM, 0), payload = atoi(argv[5]);
    struct sockaddr_in group = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    struct ip_mreq membership;
    if (!inet_aton(argv[2], &group.sin_addr) || !inet_aton(argv[4], &membership.imr_interface)) return 2;
    membership.imr_multiaddr = group.sin_addr;
    if (is_sender) {
        if (argc != 9) return 2;
        if (setsockopt(sock, IPPROTO_IP, IP_MULTICAST_IF, &membership.imr_interface, sizeof membership.imr_interface))
            return fail("IP_MULTICAST_IF");
        return send_all(sock, group, payload, atoi(argv[6]), atof(argv[7]), atof(argv[8]));
    }
    if (bind(sock, (struct sockaddr *)&group, sizeof group)) return fail("bind");
    if (setsockopt(sock, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership)) return fail("IP_ADD_MEMBERSHIP");
    puts("ready");
    fflush(stdout);
    return receive_all(sock, payload);
}
