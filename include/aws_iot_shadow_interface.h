/*
 * A thing's classic shadow. Requests go out at once; their answers come in aws_iot_shadow_yield
 * and in calls that wait. Source compatible with the AWS IoT Device SDK for embedded C, versions 2
 * and 3. Names of things are used whole, whatever MAX_SIZE_OF_THING_NAME says.
 */
#ifndef IOTEDGE_AWS_IOT_SHADOW_INTERFACE_H
#define IOTEDGE_AWS_IOT_SHADOW_INTERFACE_H

#include "aws_iot_mqtt_client_interface.h"
#include "aws_iot_shadow_json_data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a client for shadows is initialised with. All texts are copied by the call. */
typedef struct {
	const char *pHost;
	uint16_t port;
	/* PEM files. */
	const char *pRootCA;
	const char *pClientCRT;
	const char *pClientKey;
	bool enableAutoReconnect;
	iot_disconnect_handler disconnectHandler;
} ShadowInitParameters_t;

/* What it connects with. */
typedef struct {
	/* The thing whose deltas are registered for. */
	const char *pMyThingName;
	const char *pMqttClientId;
	/* 0: up to the NUL byte. */
	uint16_t mqttClientIdLen;
	/* Is told that the thing's shadow was deleted; may be NULL. */
	pApplicationHandler_t deleteActionHandler;
} ShadowConnectParameters_t;

#ifndef AWS_IOT_MQTT_HOST
#define AWS_IOT_MQTT_HOST ""
#endif
#ifndef AWS_IOT_MQTT_PORT
#define AWS_IOT_MQTT_PORT 8883
#endif
#ifndef AWS_IOT_MY_THING_NAME
#define AWS_IOT_MY_THING_NAME "AWS-IoT-C-SDK"
#endif
#ifndef AWS_IOT_MQTT_CLIENT_ID
#define AWS_IOT_MQTT_CLIENT_ID "c-sdk-client-id"
#endif

/* The defaults, with the application's macros. */
static const ShadowInitParameters_t ShadowInitParametersDefault IOTEDGE_MAYBE_UNUSED = {
	AWS_IOT_MQTT_HOST, AWS_IOT_MQTT_PORT, NULL, NULL, NULL, false, NULL};
static const ShadowConnectParameters_t ShadowConnectParametersDefault IOTEDGE_MAYBE_UNUSED = {
	AWS_IOT_MY_THING_NAME, AWS_IOT_MQTT_CLIENT_ID, 0, NULL};

/* How a request ended. */
typedef enum {
	SHADOW_ACK_TIMEOUT = 0,
	SHADOW_ACK_REJECTED = 1,
	SHADOW_ACK_ACCEPTED = 2
} Shadow_Ack_Status_t;

/* What was asked. */
typedef enum {
	SHADOW_GET = 0,
	SHADOW_UPDATE = 1,
	SHADOW_DELETE = 2
} ShadowActions_t;

/*
 * Is told how a request ended, with the answer as text of JSON; after a timeout that is the last
 * answer to any request, or "". It may call everything here but yield.
 */
typedef void (*fpActionCallback_t)(const char *pThingName, ShadowActions_t action,
								   Shadow_Ack_Status_t status,
								   const char *pReceivedJsonDocument, void *pContextData);

IoT_Error_t iotedge_compat_shadow_init(AWS_IoT_Client *pClient,
									   const ShadowInitParameters_t *pParams,
									   const struct iotedge_compat_config *pConfig);

/* Initialises a client for shadows; its memory may hold anything. */
static inline IoT_Error_t aws_iot_shadow_init(AWS_IoT_Client *pClient,
											  const ShadowInitParameters_t *pParams) {
	const struct iotedge_compat_config config = iotedge_compat_config_of_application();
	return iotedge_compat_shadow_init(pClient, pParams, &config);
}

/* Closes what is open, and forgets the client. */
IoT_Error_t aws_iot_shadow_free(AWS_IoT_Client *pClient);

/* Connects, with a keep-alive of 600 seconds and a clean session. */
IoT_Error_t aws_iot_shadow_connect(AWS_IoT_Client *pClient,
								   const ShadowConnectParameters_t *pParams);

/* Tells requests whose time is over, then does what aws_iot_mqtt_yield does. */
IoT_Error_t aws_iot_shadow_yield(AWS_IoT_Client *pClient, uint32_t timeout);

IoT_Error_t aws_iot_shadow_disconnect(AWS_IoT_Client *pClient);

/*
 * Sends a document. With a callback and a clientToken in the document the answer is told, at most
 * timeout_seconds later; MQTT_CONNECTION_ERROR without a connection, FAILURE when too many wait.
 * The answer's topics are subscribed by the first request, and left with the last one unless
 * isPersistentSubscribe is true.
 */
IoT_Error_t aws_iot_shadow_update(AWS_IoT_Client *pClient, const char *pThingName,
								  char *pJsonString, fpActionCallback_t callback,
								  void *pContextData, uint8_t timeout_seconds,
								  bool isPersistentSubscribe);

/* Asks for the shadow. */
IoT_Error_t aws_iot_shadow_get(AWS_IoT_Client *pClient, const char *pThingName,
							   fpActionCallback_t callback, void *pContextData,
							   uint8_t timeout_seconds, bool isPersistentSubscribe);

/* Deletes the shadow. */
IoT_Error_t aws_iot_shadow_delete(AWS_IoT_Client *pClient, const char *pThingName,
								  fpActionCallback_t callback, void *pContextData,
								  uint8_t timeout_seconds, bool isPersistentSubscribe);

/*
 * Whenever a delta has the member, its value is written where pData points, if it is of the type,
 * and cb is called. The structure is used until the client is freed.
 */
IoT_Error_t aws_iot_shadow_register_delta(AWS_IoT_Client *pClient, jsonStruct_t *pStruct);

/* The highest version that a delta or the answer to a get had: one for the whole process. */
uint32_t aws_iot_shadow_get_last_received_version(void);
void aws_iot_shadow_reset_last_received_version(void);

/* Whether deltas that are not newer than the last one are dropped: so it is at first. */
void aws_iot_shadow_enable_discard_old_delta_msgs(void);
void aws_iot_shadow_disable_discard_old_delta_msgs(void);

IoT_Error_t aws_iot_shadow_set_autoreconnect_status(AWS_IoT_Client *pClient, bool newStatus);

#ifdef __cplusplus
}
#endif

#endif
