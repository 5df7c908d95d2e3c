// SPDX-License-Identifier: Apache-2.0
// One file by NORM (RFC 5740), for bench/transfer_netns.py: the options that were fastest of those tried on libnorm.
//   norm_peer send DEVICE FILE BIT_S PARITY NODE...   ends with 0 when every node has acknowledged the file
//   norm_peer recv DEVICE OUTPUT NODE                 OUTPUT appears when it is complete; ends when it is told to
// C++ because normApi.h is. Congestion control is off, since it stays far below what a LAN carries; so the rate has to fit.
#include <normApi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {
const char *const GROUP = "239.255.77.9";
const UINT16 PORT = 6003;
const UINT32 BUFFER_BYTES = 64 << 20;
const unsigned SOCKET_BYTES = 8 << 20;
const UINT16 SEGMENT_BYTES = 1400, BLOCK = 64;
const double GRTT_S = 0.002, MAX_GRTT_S = 0.02;
const NormNodeId SENDER = 1;

NormSessionHandle open_session(NormInstanceHandle instance, const char *device, NormNodeId node) {
    NormSessionHandle session = NormCreateSession(instance, GROUP, PORT, node);
    NormSetMulticastInterface(session, device);
    NormSetBackoffFactor(session, 0);  // the default adds back-off times that 5 % loss turns into minutes
    return session;
}

bool everybody_has_it(NormSessionHandle session) {
    return NormGetAckingStatus(session, NORM_NODE_ANY) == NORM_ACK_SUCCESS;
}

int send_file(NormInstanceHandle instance, const char *device, const char *file, double bit_s, int parity, int nodes,
              char **names) {
    NormSessionHandle session = open_session(instance, device, SENDER);
    NormSetTxRate(session, bit_s);
    NormSetCongestionControl(session, false, false);
    NormSetFlowControl(session, 0);
    NormSetGrttMax(session, MAX_GRTT_S);
    NormSetGrttEstimate(session, GRTT_S);
    NormSetGroupSize(session, nodes);
    for (int i = 0; i < nodes; i++) NormAddAckingNode(session, std::atoi(names[i]));
    if (!NormStartSender(session, NormGetRandomSessionId(), BUFFER_BYTES, SEGMENT_BYTES, BLOCK, parity)) return 1;
    NormSetAutoParity(session, 0);
    NormSetTxSocketBuffer(session, SOCKET_BYTES);
    NormObjectHandle object = NormFileEnqueue(session, file);
    if (object == NORM_OBJECT_INVALID) return 1;
    NormSetWatermark(session, object, true);
    NormEvent event;
    while (NormGetNextEvent(instance, &event)) {
        if (event.type != NORM_TX_WATERMARK_COMPLETED) continue;
        if (everybody_has_it(session)) return 0;
        NormResetWatermark(session);
    }
    return 1;
}

int receive_file(NormInstanceHandle instance, const char *device, const char *output, NormNodeId node) {
    const std::string folder = std::string(output) + ".norm/";
    if (!NormSetCacheDirectory(instance, folder.c_str())) return 1;
    NormSessionHandle session = open_session(instance, device, node);
    NormSetDefaultUnicastNack(session, true);
    if (!NormStartReceiver(session, BUFFER_BYTES)) return 1;
    NormSetRxSocketBuffer(session, SOCKET_BYTES);
    NormEvent event;
    while (NormGetNextEvent(instance, &event)) {
        if (event.type == NORM_RX_OBJECT_COMPLETED && !NormFileRename(event.object, output)) return 1;
    }
    return 1;
}
}  // namespace

int main(int argc, char **argv) {
    NormInstanceHandle instance = NormCreateInstance();
    if (argc > 6 && !std::strcmp(argv[1], "send"))
        return send_file(instance, argv[2], argv[3], std::atof(argv[4]), std::atoi(argv[5]), argc - 6, argv + 6);
    if (argc == 5 && !std::strcmp(argv[1], "recv"))
        return receive_file(instance, argv[2], argv[3], std::atoi(argv[4]));
    std::fprintf(stderr, "norm_peer send DEVICE FILE BIT_S PARITY NODE... | recv DEVICE OUTPUT NODE\n");
    return 2;
}
