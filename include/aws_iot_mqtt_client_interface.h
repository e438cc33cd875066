/*
 * The calls of an MQTT client. All work happens inside them; nothing runs in the background.
 * Every call but init and free may take as long as mqttCommandTimeout_ms.
 */
#ifndef IOTEDGE_AWS_IOT_MQTT_CLIENT_INTERFACE_H
#define IOTEDGE_AWS_IOT_MQTT_CLIENT_INTERFACE_H

#include "aws_iot_mqtt_client.h"
#include "iotedge_compat_config.h"

#ifdef __cplusplus
extern "C" {
#endif

IoT_Error_t iotedge_compat_mqtt_init(AWS_IoT_Client *pClient,
									 const IoT_Client_Init_Params *pInitParams,
									 size_t initParamsSize,
									 const struct iotedge_compat_config *pConfig);

/*
 * Initialises a client; its memory may hold anything. Touches neither network nor files: a wrong
 * path shows at connect.
 */
static inline IoT_Error_t aws_iot_mqtt_init(AWS_IoT_Client *pClient,
											IoT_Client_Init_Params *pInitParams) {
	const struct iotedge_compat_config config = iotedge_compat_config_of_application();
	return iotedge_compat_mqtt_init(pClient, pInitParams, sizeof(IoT_Client_Init_Params), &config);
}

/* Closes what is open, without DISCONNECT, and forgets the client. */
IoT_Error_t aws_iot_mqtt_free(AWS_IoT_Client *pClient);

/* Connects: TCP, TLS, CONNECT, CONNACK. NULL parameters: those of the last time. */
IoT_Error_t aws_iot_mqtt_connect(AWS_IoT_Client *pClient,
								 IoT_Client_Connect_Params *pConnectParams);

/*
 * Publishes. QoS 0 returns when the bytes are handed to the system, QoS 1 when the server has
 * acknowledged.
 */
IoT_Error_t aws_iot_mqtt_publish(AWS_IoT_Client *pClient, const char *pTopicName,
								 uint16_t topicNameLen, IoT_Publish_Message_Params *pParams);

/* Subscribes; returns when the server has answered, also when its answer is a refusal. */
IoT_Error_t aws_iot_mqtt_subscribe(AWS_IoT_Client *pClient, const char *pTopicName,
								   uint16_t topicNameLen, QoS qos,
								   pApplicationHandler_t pApplicationHandler,
								   void *pApplicationHandlerData);

/* Subscribes again to everything that has a handler. */
IoT_Error_t aws_iot_mqtt_resubscribe(AWS_IoT_Client *pClient);

/* Unsubscribes; every handler of the filter goes. */
IoT_Error_t aws_iot_mqtt_unsubscribe(AWS_IoT_Client *pClient, const char *pTopicFilter,
									 uint16_t topicFilterLen);

/* Sends DISCONNECT and closes. The disconnect handler is not called. */
IoT_Error_t aws_iot_mqtt_disconnect(AWS_IoT_Client *pClient);

/* Receives, calls handlers, keeps the connection alive and makes a lost one again. */
IoT_Error_t aws_iot_mqtt_yield(AWS_IoT_Client *pClient, uint32_t timeout_ms);

/* One attempt to connect again, now: NETWORK_RECONNECTED or NETWORK_ATTEMPTING_RECONNECT. */
IoT_Error_t aws_iot_mqtt_attempt_reconnect(AWS_IoT_Client *pClient);

#ifdef __cplusplus
}
#endif

#endif
