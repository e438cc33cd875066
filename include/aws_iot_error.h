/*
 * The result codes of the aws_iot_* calls, with the numbers of the AWS IoT Device SDK for
 * embedded C, versions 2 and 3.
 */
#ifndef IOTEDGE_AWS_IOT_ERROR_H
#define IOTEDGE_AWS_IOT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* For parameters that a function does not look at. */
#define IOT_UNUSED(x) ((void) (x))

/* Positive: a state, not an error. Negative: an error. */
typedef enum {
	/* The network layer is connected. */
	NETWORK_PHYSICAL_LAYER_CONNECTED = 6,
	/* The application itself has disconnected. */
	NETWORK_MANUALLY_DISCONNECTED = 5,
	/* The connection is lost and yield is making it again. */
	NETWORK_ATTEMPTING_RECONNECT = 4,
	/* The connection has just been made again. */
	NETWORK_RECONNECTED = 3,
	/* There was no packet. */
	MQTT_NOTHING_TO_READ = 2,
	/* CONNACK accepts. */
	MQTT_CONNACK_CONNECTION_ACCEPTED = 1,
	/* Done. */
	SUCCESS = 0,
	/* Failed, and no other code says why. */
	FAILURE = -1,
	/* A pointer is NULL or a length is 0 that must not be. */
	NULL_VALUE_ERROR = -2,
	TCP_CONNECTION_ERROR = -3,
	/* The TLS handshake failed, or the server is not who it should be. */
	SSL_CONNECTION_ERROR = -4,
	TCP_SETUP_ERROR = -5,
	NETWORK_SSL_CONNECT_TIMEOUT_ERROR = -6,
	/* The connection broke while writing. */
	NETWORK_SSL_WRITE_ERROR = -7,
	NETWORK_SSL_INIT_ERROR = -8,
	NETWORK_SSL_CERT_ERROR = -9,
	/* The peer took nothing for too long. */
	NETWORK_SSL_WRITE_TIMEOUT_ERROR = -10,
	/* A part came, the rest did not in time. */
	NETWORK_SSL_READ_TIMEOUT_ERROR = -11,
	/* The connection broke while reading, or the peer closed it. */
	NETWORK_SSL_READ_ERROR = -12,
	/* There is no connection. */
	NETWORK_DISCONNECTED_ERROR = -13,
	/* The longest wait between attempts is reached; yield has given up. */
	NETWORK_RECONNECT_TIMED_OUT_ERROR = -14,
	/* There is a connection, or the client was not initialised. */
	NETWORK_ALREADY_CONNECTED_ERROR = -15,
	NETWORK_MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED = -16,
	NETWORK_SSL_UNKNOWN_ERROR = -17,
	NETWORK_PHYSICAL_LAYER_DISCONNECTED = -18,
	/* The CA file cannot be read. */
	NETWORK_X509_ROOT_CRT_PARSE_ERROR = -19,
	/* The certificate file cannot be read. */
	NETWORK_X509_DEVICE_CRT_PARSE_ERROR = -20,
	/* The key file cannot be read. */
	NETWORK_PK_PRIVATE_KEY_PARSE_ERROR = -21,
	/* No socket could be made. */
	NETWORK_ERR_NET_SOCKET_FAILED = -22,
	/* The host has no address. */
	NETWORK_ERR_NET_UNKNOWN_HOST = -23,
	/* Nobody answers at the host's addresses. */
	NETWORK_ERR_NET_CONNECT_FAILED = -24,
	/* Nothing came in time. */
	NETWORK_SSL_NOTHING_TO_READ = -25,
	MQTT_CONNECTION_ERROR = -26,
	MQTT_CONNECT_TIMEOUT_ERROR = -27,
	/* The server did not answer in time. */
	MQTT_REQUEST_TIMEOUT_ERROR = -28,
	/* Not possible in the client's present state. */
	MQTT_UNEXPECTED_CLIENT_STATE_ERROR = -29,
	/* Another operation of this client is going on. */
	MQTT_CLIENT_NOT_IDLE_ERROR = -30,
	/* The server sent a packet that is none, or not for clients. */
	MQTT_RX_MESSAGE_PACKET_TYPE_INVALID_ERROR = -31,
	/* A packet did not fit AWS_IOT_MQTT_RX_BUF_LEN and was skipped. */
	MQTT_RX_BUFFER_TOO_SHORT_ERROR = -32,
	/* The packet does not fit AWS_IOT_MQTT_TX_BUF_LEN. */
	MQTT_TX_BUFFER_TOO_SHORT_ERROR = -33,
	/* AWS_IOT_MQTT_NUM_SUBSCRIBE_HANDLERS subscriptions are there already. */
	MQTT_MAX_SUBSCRIPTIONS_REACHED_ERROR = -34,
	/* A packet's length is longer than four bytes. */
	MQTT_DECODE_REMAINING_LENGTH_ERROR = -35,
	/* CONNACK makes no sense. */
	MQTT_CONNACK_UNKNOWN_ERROR = -36,
	/* CONNACK 1. */
	MQTT_CONNACK_UNACCEPTABLE_PROTOCOL_VERSION_ERROR = -37,
	/* CONNACK 2. */
	MQTT_CONNACK_IDENTIFIER_REJECTED_ERROR = -38,
	/* CONNACK 3. */
	MQTT_CONNACK_SERVER_UNAVAILABLE_ERROR = -39,
	/* CONNACK 4. */
	MQTT_CONNACK_BAD_USERDATA_ERROR = -40,
	/* CONNACK 5. */
	MQTT_CONNACK_NOT_AUTHORIZED_ERROR = -41,
	JSON_PARSE_ERROR = -42,
	SHADOW_WAIT_FOR_PUBLISH = -43,
	SHADOW_JSON_BUFFER_TRUNCATED = -44,
	SHADOW_JSON_ERROR = -45,
	/* Mutexes, see threads_interface.h. */
	MUTEX_INIT_ERROR = -46,
	MUTEX_LOCK_ERROR = -47,
	MUTEX_UNLOCK_ERROR = -48,
	MUTEX_DESTROY_ERROR = -49,
	MAX_SIZE_ERROR = -50,
	LIMIT_EXCEEDED_ERROR = -51,
	INVALID_TOPIC_TYPE_ERROR = -52
} IoT_Error_t;

#ifdef __cplusplus
}
#endif

#endif
