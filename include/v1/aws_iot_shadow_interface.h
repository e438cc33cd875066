/*
 * A thing's classic shadow, version 1, on the one client of the process. The table of calls that
 * the functions take may not be NULL and is not used for more: the connection is the library's.
 */
#ifndef IOTEDGE_V1_AWS_IOT_SHADOW_INTERFACE_H
#define IOTEDGE_V1_AWS_IOT_SHADOW_INTERFACE_H

#include "aws_iot_mqtt_interface.h"
#include "aws_iot_shadow_json_data.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef AWS_IOT_MY_THING_NAME
#define AWS_IOT_MY_THING_NAME "AWS-IoT-C-SDK"
#endif
#ifndef AWS_IOT_MQTT_CLIENT_ID
#define AWS_IOT_MQTT_CLIENT_ID "c-sdk-client-id"
#endif
#ifndef AWS_IOT_ROOT_CA_FILENAME
#define AWS_IOT_ROOT_CA_FILENAME ""
#endif
#ifndef AWS_IOT_CERTIFICATE_FILENAME
#define AWS_IOT_CERTIFICATE_FILENAME ""
#endif
#ifndef AWS_IOT_PRIVATE_KEY_FILENAME
#define AWS_IOT_PRIVATE_KEY_FILENAME ""
#endif

/* What a client for shadows connects with. All texts are copied by the call. */
typedef struct {
	/* The thing whose deltas are registered for. */
	const char *pMyThingName;
	const char *pMqttClientId;
	const char *pHost;
	int port;
	/* PEM files. */
	const char *pRootCA;
	const char *pClientCRT;
	const char *pClientKey;
} ShadowParameters_t;

/* The defaults, with the application's macros. */
static const ShadowParameters_t ShadowParametersDefault IOTEDGE_MAYBE_UNUSED = {
	AWS_IOT_MY_THING_NAME,    AWS_IOT_MQTT_CLIENT_ID,       AWS_IOT_MQTT_HOST,
	AWS_IOT_MQTT_PORT,        AWS_IOT_ROOT_CA_FILENAME,     AWS_IOT_CERTIFICATE_FILENAME,
	AWS_IOT_PRIVATE_KEY_FILENAME};

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

IoT_Error_t iotedge_v1_shadow_init(void);
IoT_Error_t iotedge_v1_shadow_connect(const ShadowParameters_t *pParams,
									  const struct iotedge_compat_config *pConfig);
IoT_Error_t iotedge_v1_shadow_yield(int timeout);
IoT_Error_t iotedge_v1_shadow_update(const char *pThingName, const char *pJsonString,
									 fpActionCallback_t callback, void *pContextData,
									 uint8_t timeout_seconds, bool isPersistentSubscribe);
IoT_Error_t iotedge_v1_shadow_ask(bool isDelete, const char *pThingName,
								  fpActionCallback_t callback, void *pContextData,
								  uint8_t timeout_seconds, bool isPersistentSubscribe);
IoT_Error_t iotedge_v1_shadow_register_delta(jsonStruct_t *pStruct);

static inline IoT_Error_t aws_iot_shadow_init(MQTTClient_t *pClient) {
	return pClient == NULL ? NULL_VALUE_ERROR : iotedge_v1_shadow_init();
}

/* Connects, with a keep-alive of 10 seconds and a clean session. */
static inline IoT_Error_t aws_iot_shadow_connect(MQTTClient_t *pClient,
												 ShadowParameters_t *pParams) {
	const struct iotedge_compat_config config = iotedge_compat_config_of_application();
	return pClient == NULL ? NULL_VALUE_ERROR : iotedge_v1_shadow_connect(pParams, &config);
}

/* Tells requests whose time is over, then does what aws_iot_mqtt_yield does. */
static inline IoT_Error_t aws_iot_shadow_yield(MQTTClient_t *pClient, int timeout) {
	return pClient == NULL ? NULL_VALUE_ERROR : iotedge_v1_shadow_yield(timeout);
}

static inline IoT_Error_t aws_iot_shadow_disconnect(MQTTClient_t *pClient) {
	return pClient == NULL ? NULL_VALUE_ERROR : iotedge_v1_mqtt_disconnect();
}

/*
 * Sends a document. With a callback and a clientToken in the document the answer is told, at most
 * timeout_seconds later. The answer's topics are subscribed by the first request, and left with
 * the last one unless isPersistentSubscribe is true.
 */
static inline IoT_Error_t aws_iot_shadow_update(MQTTClient_t *pClient, const char *pThingName,
												char *pJsonString, fpActionCallback_t callback,
												void *pContextData, uint8_t timeout_seconds,
												bool isPersistentSubscribe) {
	return pClient == NULL
			   ? NULL_VALUE_ERROR
			   : iotedge_v1_shadow_update(pThingName, pJsonString, callback, pContextData,
										  timeout_seconds, isPersistentSubscribe);
}

/* Asks for the shadow. */
static inline IoT_Error_t aws_iot_shadow_get(MQTTClient_t *pClient, const char *pThingName,
											 fpActionCallback_t callback, void *pContextData,
											 uint8_t timeout_seconds,
											 bool isPersistentSubscribe) {
	return pClient == NULL ? NULL_VALUE_ERROR
						   : iotedge_v1_shadow_ask(false, pThingName, callback, pContextData,
												   timeout_seconds, isPersistentSubscribe);
}

/* Deletes the shadow. */
static inline IoT_Error_t aws_iot_shadow_delete(MQTTClient_t *pClient, const char *pThingName,
												fpActionCallback_t callback, void *pContextData,
												uint8_t timeout_seconds,
												bool isPersistentSubscriptions) {
	return pClient == NULL ? NULL_VALUE_ERROR
						   : iotedge_v1_shadow_ask(true, pThingName, callback, pContextData,
												   timeout_seconds, isPersistentSubscriptions);
}

/*
 * Whenever a delta has the member, its value is written where pData points, if it is of the type,
 * and cb is called. The structure is used until the process ends or connects anew.
 */
static inline IoT_Error_t aws_iot_shadow_register_delta(MQTTClient_t *pClient,
														jsonStruct_t *pStruct) {
	return pClient == NULL ? NULL_VALUE_ERROR : iotedge_v1_shadow_register_delta(pStruct);
}

/* The highest version that a delta or the answer to a get had. */
uint32_t aws_iot_shadow_get_last_received_version(void);
void aws_iot_shadow_reset_last_received_version(void);

/* Whether deltas that are not newer than the last one are dropped: so it is at first. */
void aws_iot_shadow_enable_discard_old_delta_msgs(void);
void aws_iot_shadow_disable_discard_old_delta_msgs(void);

#ifdef __cplusplus
}
#endif

#endif
