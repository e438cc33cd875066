/*
 * Types of an MQTT client, and questions about it. Source compatible with the AWS IoT Device SDK
 * for embedded C, versions 2 and 3; link with -liotedge.
 */
#ifndef IOTEDGE_AWS_IOT_MQTT_CLIENT_H
#define IOTEDGE_AWS_IOT_MQTT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "aws_iot_error.h"
#include "iotedge_compat_config.h"
#include "network_interface.h"
#include "timer_interface.h"
#ifdef _ENABLE_THREAD_SUPPORT_
#include "threads_interface.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Packet ids are 1 to this. */
#define MAX_PACKET_ID 65535

typedef struct _Client AWS_IoT_Client;

/* Quality of service. */
typedef enum QoS {
	QOS0 = 0,
	QOS1 = 1
} QoS;

/* A message, published or received. A received payload is valid until the handler returns. */
typedef struct {
	QoS qos;
	uint8_t isRetained;
	/* Only of received messages. */
	uint8_t isDup;
	/* Of a publish with QoS 1: written by the call. */
	uint16_t id;
	void *payload;
	size_t payloadLen;
} IoT_Publish_Message_Params;

/* The protocol's version. */
typedef enum {
	MQTT_3_1_1 = 4
} MQTT_Ver_t;

/* What the server publishes when the connection is lost. */
typedef struct {
	char struct_id[4];
	char *pTopicName;
	uint16_t topicNameLen;
	char *pMessage;
	uint16_t msgLen;
	bool isRetained;
	QoS qos;
} IoT_MQTT_Will_Options;

#define IoT_MQTT_Will_Options_Initializer \
	{ {'M', 'Q', 'T', 'W'}, NULL, 0, NULL, 0, false, QOS0 }

/* What a client connects with. All texts are copied by the call. */
typedef struct {
	char struct_id[4];
	MQTT_Ver_t MQTTVersion;
	const char *pClientID;
	uint16_t clientIDLen;
	/* Seconds; 0 switches it off. */
	uint16_t keepAliveIntervalInSec;
	bool isCleanSession;
	bool isWillMsgPresent;
	IoT_MQTT_Will_Options will;
	/* Sent only where DISABLE_METRICS is true. */
	char *pUsername;
	uint16_t usernameLen;
	char *pPassword;
	uint16_t passwordLen;
} IoT_Client_Connect_Params;

#define IoT_Client_Connect_Params_initializer                                          \
	{                                                                                  \
		{'M', 'Q', 'T', 'C'}, MQTT_3_1_1, NULL, 0, 60, true, false,                    \
			IoT_MQTT_Will_Options_Initializer, NULL, 0, NULL, 0                        \
	}

/* Is told, inside yield, that the connection is lost. */
typedef void (*iot_disconnect_handler)(AWS_IoT_Client *pClient, void *pData);

/* What a client is initialised with. All texts are copied by the call. */
typedef struct {
	bool enableAutoReconnect;
	const char *pHostURL;
	uint16_t port;
	/* PEM files. */
	const char *pRootCALocation;
	const char *pDeviceCertLocation;
	const char *pDevicePrivateKeyLocation;
	/* Not used. */
	uint32_t mqttPacketTimeout_ms;
	/* How long the server's answer to a call may take. */
	uint32_t mqttCommandTimeout_ms;
	uint32_t tlsHandshakeTimeout_ms;
	/* false: the server is not verified at all. */
	bool isSSLHostnameVerify;
	iot_disconnect_handler disconnectHandler;
	void *disconnectHandlerData;
#ifdef _ENABLE_THREAD_SUPPORT_
	/* Without effect: no call waits longer than a moment for another thread. */
	bool isBlockOnThreadLockEnabled;
#endif
} IoT_Client_Init_Params;

#ifdef _ENABLE_THREAD_SUPPORT_
#define IoT_Client_Init_Params_initializer \
	{ true, NULL, 0, NULL, NULL, NULL, 2000, 20000, 5000, true, NULL, NULL, false }
#else
#define IoT_Client_Init_Params_initializer \
	{ true, NULL, 0, NULL, NULL, NULL, 2000, 20000, 5000, true, NULL, NULL }
#endif

/* The defaults as objects, of the header: their size follows the application's flags. */
static const IoT_MQTT_Will_Options iotMqttWillOptionsDefault IOTEDGE_MAYBE_UNUSED =
	IoT_MQTT_Will_Options_Initializer;
static const IoT_Client_Connect_Params iotClientConnectParamsDefault IOTEDGE_MAYBE_UNUSED =
	IoT_Client_Connect_Params_initializer;
static const IoT_Client_Init_Params iotClientInitParamsDefault IOTEDGE_MAYBE_UNUSED =
	IoT_Client_Init_Params_initializer;

/* What a client is doing. */
typedef enum _ClientState {
	CLIENT_STATE_INVALID = 0,
	CLIENT_STATE_INITIALIZED = 1,
	CLIENT_STATE_CONNECTING = 2,
	CLIENT_STATE_CONNECTED_IDLE = 3,
	CLIENT_STATE_CONNECTED_YIELD_IN_PROGRESS = 4,
	CLIENT_STATE_CONNECTED_PUBLISH_IN_PROGRESS = 5,
	CLIENT_STATE_CONNECTED_SUBSCRIBE_IN_PROGRESS = 6,
	CLIENT_STATE_CONNECTED_UNSUBSCRIBE_IN_PROGRESS = 7,
	CLIENT_STATE_CONNECTED_RESUBSCRIBE_IN_PROGRESS = 8,
	CLIENT_STATE_CONNECTED_WAIT_FOR_CB_RETURN = 9,
	CLIENT_STATE_DISCONNECTING = 10,
	CLIENT_STATE_DISCONNECTED_ERROR = 11,
	CLIENT_STATE_DISCONNECTED_MANUALLY = 12,
	CLIENT_STATE_PENDING_RECONNECT = 13
} ClientState;

/*
 * Is given a message of a subscription, on the thread that called: inside yield, and inside
 * publish with QoS 1, subscribe, unsubscribe and resubscribe while these wait. It may publish,
 * subscribe and unsubscribe; it must not yield. Topic and payload are valid until it returns.
 */
typedef void (*pApplicationHandler_t)(AWS_IoT_Client *pClient, char *pTopicName,
									  uint16_t topicNameLen, IoT_Publish_Message_Params *pParams,
									  void *pClientData);

/* A client. The library knows it by its address and keeps nothing in it. */
struct _Client {
	uint64_t iotedge_reserved[16];
};

/* A packet id that grows by one with each call, from 65535 to 1. */
uint16_t aws_iot_mqtt_get_next_packet_id(AWS_IoT_Client *pClient);

/* Keeps parameters for the next connect without any. */
IoT_Error_t aws_iot_mqtt_set_connect_params(AWS_IoT_Client *pClient,
											IoT_Client_Connect_Params *pNewConnectParams);

/* Whether there is a connection, as far as known. */
bool aws_iot_mqtt_is_client_connected(AWS_IoT_Client *pClient);

ClientState aws_iot_mqtt_get_client_state(AWS_IoT_Client *pClient);

/* Whether yield makes a lost connection again. */
bool aws_iot_is_autoreconnect_enabled(AWS_IoT_Client *pClient);

/* Who is told that the connection is lost. */
IoT_Error_t aws_iot_mqtt_set_disconnect_handler(AWS_IoT_Client *pClient,
												iot_disconnect_handler pDisconnectHandler,
												void *pDisconnectHandlerData);

/* Whether yield shall make a lost connection again. */
IoT_Error_t aws_iot_mqtt_autoreconnect_set_status(AWS_IoT_Client *pClient, bool newStatus);

/* How often the connection was lost. */
uint32_t aws_iot_mqtt_get_network_disconnected_count(AWS_IoT_Client *pClient);

void aws_iot_mqtt_reset_network_disconnected_count(AWS_IoT_Client *pClient);

#ifdef __cplusplus
}
#endif

#endif
