/*
 * The version of the SDK's interface that these headers offer. The library's own version is
 * iotedge_version() in iotedge.h.
 */
#ifndef IOTEDGE_V1_AWS_IOT_VERSION_H
#define IOTEDGE_V1_AWS_IOT_VERSION_H

#define VERSION_MAJOR 1
#define VERSION_MINOR 1
#define VERSION_PATCH 2
#define VERSION_TAG ""

#endif
