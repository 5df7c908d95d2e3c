/* SPDX-License-Identifier: Apache-2.0
 * The clients of bench/tftp.py, a process each: one blocking socket, RFC 2348 and 7440, no receive offload, the same for
 * every server.
 * tftp_get ADDRESS PORT NAME OUTPUT|- BLKSIZE WINDOWSIZE CLIENTS SECONDS
 * starts them at one moment and prints "bytes seconds timeouts cpu_seconds complete": of all together, from that moment to
 * the last one's end; who is not done after SECONDS counts with what it has. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t put(char *at, const char *text) {
    size_t n = strlen(text) + 1;
    memcpy(at, text, n);
    return n;
}

struct result {
    unsigned long long bytes, timeouts;
    double end;
    int complete;
};

/* One download; what it has so far stands in `result` all the time. */
static int get_file(char **argv, volatile struct result *result) {
    static unsigned char packet[65536];
    char request[512] = {0, 1};
    size_t length = 2, blksize = 512;
    unsigned window = 1, since_ack = 0, gap_told = 0;
    unsigned short expected = 1;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    int sock = socket(AF_INET, SOCK_DGRAM, 0), connected = 0, buffer = 1 << 22;
    FILE *output = strcmp(argv[4], "-") ? fopen(argv[4], "wb") : NULL;
    struct timeval patience = {1, 0};

    if (!inet_aton(argv[1], &server.sin_addr)) return 2;
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    length += put(request + length, argv[3]);
    length += put(request + length, "octet");
    length += put(request + length, "blksize");
    length += put(request + length, argv[5]);
    if (atoi(argv[6]) > 1) {
        length += put(request + length, "windowsize");
        length += put(request + length, argv[6]);
    }
    sendto(sock, request, length, 0, (struct sockaddr *)&server, sizeof server);
    for (int silent = 0; silent < 5;) {
        struct sockaddr_in from;
        socklen_t from_length = sizeof from;
        ssize_t got = connected ? recv(sock, packet, sizeof packet, 0)
                                : recvfrom(sock, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_length);
        int answer = 0, done = 0;
        if (got < 4) { /* time-out: say the last thing again */
            result->timeouts++, silent++;
            if (!connected) sendto(sock, request, length, 0, (struct sockaddr *)&server, sizeof server);
            answer = connected;
        } else {
            if (!connected) connect(sock, (struct sockaddr *)&from, sizeof from), connected = 1;
            silent = 0;
            unsigned short number = packet[2] << 8 | packet[3];
            if (packet[1] == 6) { /* OACK */
                for (char *at = (char *)packet + 2, *end = (char *)packet + got; at < end;) {
                    char *name = at, *value = at + strlen(at) + 1;
                    if (value >= end) break;
                    if (!strcasecmp(name, "blksize")) blksize = atoi(value);
                    if (!strcasecmp(name, "windowsize")) window = atoi(value);
                    at = value + strlen(value) + 1;
                }
                answer = 1;
            } else if (packet[1] == 3 && number == expected) {
                size_t size = got - 4;
                if (output) fwrite(packet + 4, 1, size, output);
                result->bytes += size, result->end = now_s(), expected++, gap_told = 0;
                done = size < blksize;
                answer = ++since_ack >= window || done;
            } else if (packet[1] == 3) {
                answer = !gap_told, gap_told = 1;
            } else if (packet[1] == 5) {
                fprintf(stderr, "error %d: %s\n", number, packet + 4);
                return 1;
            }
        }
        if (answer) {
            unsigned short last = expected - 1;
            unsigned char ack[4] = {0, 4, last >> 8, last & 255};
            send(sock, ack, 4, 0);
            since_ack = 0;
        }
        if (done) {
            if (output) fclose(output);
            result->complete = 1;
            return 0;
        }
    }
    fprintf(stderr, "gave up after %llu bytes\n", result->bytes);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 9) return 2;
    int clients = atoi(argv[7]), seconds = atoi(argv[8]), start[2], complete = 0;
    unsigned long long bytes = 0, timeouts = 0;
    double began, last = 0;
    char byte;
    struct rusage usage;
    struct result *results = mmap(NULL, clients * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (results == MAP_FAILED || pipe(start)) return 2;
    for (int i = 0; i < clients; i++) {
        if (fork() == 0) {
            close(start[1]);
            if (read(start[0], &byte, 1) < 0) return 2; /* until the parent lets go of the other end */
            alarm(seconds);
            return get_file(argv, &results[i]);
        }
    }
    close(start[0]);
    usleep(20000); /* they all stand at the start */
    began = now_s();
    close(start[1]);
    while (wait(NULL) > 0) {
    }
    for (int i = 0; i < clients; i++) {
        bytes += results[i].bytes, timeouts += results[i].timeouts, complete += results[i].complete;
        double end = results[i].complete ? results[i].end : began + seconds;
        if (end > last) last = end;
    }
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("%llu %.6f %llu %.6f %d\n", bytes, last - began, timeouts,
           usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6, complete);
    return complete == clients ? 0 : 1;
}
