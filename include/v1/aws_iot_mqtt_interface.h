/*
 * The MQTT client of version 1: one connection for the whole process. Source compatible with
 * version 1 of the AWS IoT Device SDK for embedded C; link with -liotedge, and have this folder
 * before that of the later versions on the include path. All work happens inside the calls;
 * nothing runs in the background.
 */
#ifndef IOTEDGE_V1_AWS_IOT_MQTT_INTERFACE_H
#define IOTEDGE_V1_AWS_IOT_MQTT_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Version 1 gives up reconnecting earlier than its successors. */
#define IOTEDGE_COMPAT_MAX_RECONNECT_WAIT 8000
#include "../iotedge_compat_config.h"
#include "aws_iot_error.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef AWS_IOT_MQTT_HOST
#define AWS_IOT_MQTT_HOST ""
#endif
#ifndef AWS_IOT_MQTT_PORT
#define AWS_IOT_MQTT_PORT 8883
#endif

/* The protocol's version. It is 3.1.1 on the wire in any case. */
typedef enum {
	MQTT_3_1 = 3,
	MQTT_3_1_1 = 4
} MQTT_Ver_t;

typedef enum {
	QOS_0 = 0,
	QOS_1 = 1,
	QOS_2 = 2
} QoSLevel;

/* What the server publishes when the connection is lost. */
typedef struct {
	const char *pTopicName;
	const char *pMessage;
	bool isRetained;
	QoSLevel qos;
} MQTTwillOptions;

static const MQTTwillOptions MQTTwillOptionsDefault IOTEDGE_MAYBE_UNUSED = {NULL, NULL, false,
																			QOS_0};

/* Is told, inside yield, that the connection is lost. */
typedef void (*iot_disconnect_handler)(void);

/* What to connect with. All texts are copied by the call. */
typedef struct {
	/* Whether yield makes a lost connection again. */
	uint8_t enableAutoReconnect;
	const char *pHostURL;
	uint16_t port;
	/* PEM files. */
	const char *pRootCALocation;
	const char *pDeviceCertLocation;
	const char *pDevicePrivateKeyLocation;
	const char *pClientID;
	const char *pUserName;
	const char *pPassword;
	MQTT_Ver_t MQTTVersion;
	uint16_t KeepAliveInterval_sec;
	bool isCleansession;
	bool isWillMsgPresent;
	MQTTwillOptions will;
	uint32_t mqttCommandTimeout_ms;
	uint32_t tlsHandshakeTimeout_ms;
	/* false: the server is not verified at all. */
	bool isSSLHostnameVerify;
	iot_disconnect_handler disconnectHandler;
} MQTTConnectParams;

static const MQTTConnectParams MQTTConnectParamsDefault IOTEDGE_MAYBE_UNUSED = {
	0, AWS_IOT_MQTT_HOST, AWS_IOT_MQTT_PORT, NULL, NULL, NULL, NULL, NULL, NULL, MQTT_3_1_1, 10,
	true, false, {NULL, NULL, false, QOS_0}, 1000, 2000, true, NULL};

/* A message, published or received. A received payload is valid until the handler returns. */
typedef struct {
	QoSLevel qos;
	bool isRetained;
	bool isDuplicate;
	/* Of a publish with QoS 1 or 2: written by the call. */
	uint16_t id;
	void *pPayload;
	uint32_t PayloadLen;
} MQTTMessageParams;

static const MQTTMessageParams MQTTMessageParamsDefault IOTEDGE_MAYBE_UNUSED = {
	QOS_0, false, false, 0, NULL, 0};

/* A received message. The topic has TopicNameLen bytes. */
typedef struct {
	char *pTopicName;
	uint16_t TopicNameLen;
	MQTTMessageParams MessageParams;
} MQTTCallbackParams;

static const MQTTCallbackParams MQTTCallbackParamsDefault IOTEDGE_MAYBE_UNUSED = {
	NULL, 0, {QOS_0, false, false, 0, NULL, 0}};

/*
 * Is given a message, inside yield and inside calls that wait for the server. It may publish,
 * subscribe and unsubscribe; it must not yield.
 */
typedef int32_t (*iot_message_handler)(MQTTCallbackParams params);

typedef struct {
	const char *pTopic;
	QoSLevel qos;
	iot_message_handler mHandler;
} MQTTSubscribeParams;

static const MQTTSubscribeParams MQTTSubscribeParamsDefault IOTEDGE_MAYBE_UNUSED = {NULL, QOS_0,
																					NULL};

typedef struct {
	const char *pTopic;
	MQTTMessageParams MessageParams;
} MQTTPublishParams;

static const MQTTPublishParams MQTTPublishParamsDefault IOTEDGE_MAYBE_UNUSED = {
	NULL, {QOS_0, false, false, 0, NULL, 0}};

/* The library's names: the later versions have functions of the same names and other types. */
IoT_Error_t iotedge_v1_mqtt_connect(const MQTTConnectParams *pParams,
									const struct iotedge_compat_config *pConfig);
IoT_Error_t iotedge_v1_mqtt_publish(MQTTPublishParams *pParams);
IoT_Error_t iotedge_v1_mqtt_subscribe(const MQTTSubscribeParams *pParams);
IoT_Error_t iotedge_v1_mqtt_unsubscribe(const char *pTopic);
IoT_Error_t iotedge_v1_mqtt_disconnect(void);
IoT_Error_t iotedge_v1_mqtt_yield(int timeout);
IoT_Error_t iotedge_v1_mqtt_attempt_reconnect(void);
IoT_Error_t iotedge_v1_mqtt_autoreconnect_set_status(bool value);
bool iotedge_v1_is_mqtt_connected(void);
bool iotedge_v1_is_autoreconnect_enabled(void);

/* Connects: TCP, TLS, CONNECT, CONNACK. Subscriptions of an earlier connection are gone. */
static inline IoT_Error_t aws_iot_mqtt_connect(MQTTConnectParams *pParams) {
	const struct iotedge_compat_config config = iotedge_compat_config_of_application();
	return iotedge_v1_mqtt_connect(pParams, &config);
}

/*
 * Publishes. QoS 0 returns when the bytes are handed to the system, QoS 1 and 2 when the server
 * has acknowledged.
 */
static inline IoT_Error_t aws_iot_mqtt_publish(MQTTPublishParams *pParams) {
	return iotedge_v1_mqtt_publish(pParams);
}

/* Subscribes; SUBSCRIBE_ERROR also when the server refuses. */
static inline IoT_Error_t aws_iot_mqtt_subscribe(MQTTSubscribeParams *pParams) {
	return iotedge_v1_mqtt_subscribe(pParams);
}

static inline IoT_Error_t aws_iot_mqtt_unsubscribe(char *pTopic) {
	return iotedge_v1_mqtt_unsubscribe(pTopic);
}

/* Sends DISCONNECT and closes. */
static inline IoT_Error_t aws_iot_mqtt_disconnect(void) {
	return iotedge_v1_mqtt_disconnect();
}

/* Receives, calls handlers and keeps the connection alive for so many milliseconds. */
static inline IoT_Error_t aws_iot_mqtt_yield(int timeout) {
	return iotedge_v1_mqtt_yield(timeout);
}

/* One attempt to connect again: RECONNECT_SUCCESSFUL, or why not. */
static inline IoT_Error_t aws_iot_mqtt_attempt_reconnect(void) {
	return iotedge_v1_mqtt_attempt_reconnect();
}

/* Whether yield shall make a lost connection again. */
static inline IoT_Error_t aws_iot_mqtt_autoreconnect_set_status(bool value) {
	return iotedge_v1_mqtt_autoreconnect_set_status(value);
}

static inline bool aws_iot_is_mqtt_connected(void) {
	return iotedge_v1_is_mqtt_connected();
}

static inline bool aws_iot_is_autoreconnect_enabled(void) {
	return iotedge_v1_is_autoreconnect_enabled();
}

typedef IoT_Error_t (*pConnectFunc_t)(MQTTConnectParams *pParams);
typedef IoT_Error_t (*pPublishFunc_t)(MQTTPublishParams *pParams);
typedef IoT_Error_t (*pSubscribeFunc_t)(MQTTSubscribeParams *pParams);
typedef IoT_Error_t (*pUnsubscribeFunc_t)(char *pTopic);
typedef IoT_Error_t (*pDisconnectFunc_t)(void);
typedef IoT_Error_t (*pYieldFunc_t)(int timeout);
typedef bool (*pIsConnectedFunc_t)(void);
typedef IoT_Error_t (*pReconnectFunc_t)(void);
typedef bool (*pIsAutoReconnectEnabledFunc_t)(void);
typedef IoT_Error_t (*pSetAutoReconnectStatusFunc_t)(bool value);

/* The calls as a table. */
typedef struct {
	pConnectFunc_t connect;
	pPublishFunc_t publish;
	pSubscribeFunc_t subscribe;
	pUnsubscribeFunc_t unsubscribe;
	pDisconnectFunc_t disconnect;
	pYieldFunc_t yield;
	pIsConnectedFunc_t isConnected;
	pReconnectFunc_t reconnect;
	pIsAutoReconnectEnabledFunc_t isAutoReconnectEnabled;
	pSetAutoReconnectStatusFunc_t setAutoReconnectStatus;
} MQTTClient_t;

/* Fills the table. */
static inline void aws_iot_mqtt_init(MQTTClient_t *pClient) {
	if (pClient == NULL) {
		return;
	}
	pClient->connect = aws_iot_mqtt_connect;
	pClient->publish = aws_iot_mqtt_publish;
	pClient->subscribe = aws_iot_mqtt_subscribe;
	pClient->unsubscribe = aws_iot_mqtt_unsubscribe;
	pClient->disconnect = aws_iot_mqtt_disconnect;
	pClient->yield = aws_iot_mqtt_yield;
	pClient->isConnected = aws_iot_is_mqtt_connected;
	pClient->reconnect = aws_iot_mqtt_attempt_reconnect;
	pClient->isAutoReconnectEnabled = aws_iot_is_autoreconnect_enabled;
	pClient->setAutoReconnectStatus = aws_iot_mqtt_autoreconnect_set_status;
}

#ifdef __cplusplus
}
#endif

#endif
