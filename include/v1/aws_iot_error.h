/* The result codes of version 1 of the AWS IoT Device SDK for embedded C. */
#ifndef IOTEDGE_V1_AWS_IOT_ERROR_H
#define IOTEDGE_V1_AWS_IOT_ERROR_H

/* Positive: a state, not an error. Negative: an error. */
typedef enum {
	/* The connection has just been made again. */
	RECONNECT_SUCCESSFUL = 1,
	/* Done. */
	NONE_ERROR = 0,
	GENERIC_ERROR = -1,
	/* Something that must be there is NULL. */
	NULL_VALUE_ERROR = -2,
	/* The server does not answer or refuses. */
	CONNECTION_ERROR = -3,
	SUBSCRIBE_ERROR = -4,
	PUBLISH_ERROR = -5,
	DISCONNECT_ERROR = -6,
	YIELD_ERROR = -7,
	TCP_CONNECT_ERROR = -8,
	/* The handshake failed, or the server was not believed. */
	SSL_CONNECT_ERROR = -9,
	TCP_SETUP_ERROR = -10,
	SSL_CONNECT_TIMEOUT_ERROR = -11,
	SSL_WRITE_ERROR = -12,
	SSL_INIT_ERROR = -13,
	/* A file of the CA, the certificate or the key cannot be used. */
	SSL_CERT_ERROR = -14,
	UNSUBSCRIBE_ERROR = -15,
	JSON_PARSE_ERROR = -16,
	WAIT_FOR_PUBLISH = -17,
	SSL_WRITE_TIMEOUT_ERROR = -18,
	SSL_READ_TIMEOUT_ERROR = -19,
	SSL_READ_ERROR = -20,
	/* The document did not fit its buffer. */
	SHADOW_JSON_BUFFER_TRUNCATED = -21,
	SHADOW_JSON_ERROR = -22,
	/* There is no connection. */
	NETWORK_DISCONNECTED = -23,
	/* The connection could not be made again. */
	NETWORK_RECONNECT_TIMED_OUT = -24,
	/* The connection is lost and yield is making it again. */
	NETWORK_ATTEMPTING_RECONNECT = -25,
	NETWORK_ALREADY_CONNECTED = -26,
	RX_MESSAGE_INVALID = -27,
	/* A message did not fit AWS_IOT_MQTT_RX_BUF_LEN and was skipped. */
	RX_MESSAGE_BIGGER_THAN_MQTT_RX_BUF = -28
} IoT_Error_t;

#endif
