/* Names of members in shadow documents. */
#ifndef IOTEDGE_AWS_IOT_SHADOW_KEY_H
#define IOTEDGE_AWS_IOT_SHADOW_KEY_H

#define SHADOW_CLIENT_TOKEN_STRING "clientToken"
#define SHADOW_VERSION_STRING "version"

#endif
