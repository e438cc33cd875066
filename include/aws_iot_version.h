/*
 * The version of the SDK's interface that these headers offer. The library's own version is
 * iotedge_version() in iotedge.h.
 */
#ifndef IOTEDGE_AWS_IOT_VERSION_H
#define IOTEDGE_AWS_IOT_VERSION_H

#define VERSION_MAJOR 3
#define VERSION_MINOR 0
#define VERSION_PATCH 1
#define VERSION_TAG ""

#endif
