/*
 * A TLS connection by itself, for applications that bring their own protocol. MQTT clients do
 * not need it: theirs is inside the library.
 */
#ifndef IOTEDGE_NETWORK_INTERFACE_H
#define IOTEDGE_NETWORK_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws_iot_error.h"
#include "timer_interface.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Network Network;

/* Where to connect and as whom; texts are used by the call that connects. */
typedef struct {
	const char *pRootCALocation;
	const char *pDeviceCertLocation;
	const char *pDevicePrivateKeyLocation;
	const char *pDestinationURL;
	uint16_t DestinationPort;
	/* For the handshake. */
	uint32_t timeout_ms;
	/* false: the server is not verified at all. */
	bool ServerVerificationFlag;
} TLSConnectParams;

/* The library's side of a connection. */
typedef struct {
	void *iotedge_wire;
} TLSDataParams;

struct Network {
	IoT_Error_t (*connect)(Network *, TLSConnectParams *);
	IoT_Error_t (*read)(Network *, unsigned char *, size_t, Timer *, size_t *);
	IoT_Error_t (*write)(Network *, unsigned char *, size_t, Timer *, size_t *);
	IoT_Error_t (*disconnect)(Network *);
	IoT_Error_t (*isConnected)(Network *);
	IoT_Error_t (*destroy)(Network *);
	TLSConnectParams tlsConnectParams;
	TLSDataParams tlsDataParams;
};

/* Fills in a Network; its memory may hold anything. */
IoT_Error_t iot_tls_init(Network *pNetwork, const char *pRootCALocation,
						 const char *pDeviceCertLocation, const char *pDevicePrivateKeyLocation,
						 const char *pDestinationURL, uint16_t DestinationPort,
						 uint32_t timeout_ms, bool ServerVerificationFlag);

/* Connects with the given parameters, or with those of init for NULL. */
IoT_Error_t iot_tls_connect(Network *pNetwork, TLSConnectParams *pParams);

/* Writes all bytes before the timer runs out. */
IoT_Error_t iot_tls_write(Network *pNetwork, unsigned char *pMsg, size_t len, Timer *pTimer,
						  size_t *pWritten);

/*
 * Reads exactly so many bytes. NETWORK_SSL_NOTHING_TO_READ when none came before the timer ran
 * out, NETWORK_SSL_READ_TIMEOUT_ERROR when only a part did: the next read begins with it.
 */
IoT_Error_t iot_tls_read(Network *pNetwork, unsigned char *pMsg, size_t len, Timer *pTimer,
						 size_t *pRead);

/* Closes. */
IoT_Error_t iot_tls_disconnect(Network *pNetwork);

/* Closes what is open and frees it. */
IoT_Error_t iot_tls_destroy(Network *pNetwork);

/* NETWORK_PHYSICAL_LAYER_CONNECTED: whether the line is there shows only when it is used. */
IoT_Error_t iot_tls_is_connected(Network *pNetwork);

#ifdef __cplusplus
}
#endif

#endif
