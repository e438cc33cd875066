/*
 * What the headers of version 1 promise to compilers: sizes as in the SDK, and the names that
 * applications use. Compiled, not run.
 */
#include "aws_iot_mqtt_interface.h"
#include "aws_iot_mqtt_interface.h"
#include "aws_iot_error.h"
#include "aws_iot_log.h"
#include "aws_iot_shadow_interface.h"
#include "aws_iot_shadow_json_data.h"
#include "aws_iot_version.h"

#ifdef __cplusplus
#define MUST(what) static_assert(what, #what)
#else
#define MUST(what) _Static_assert(what, #what)
#endif

#if defined(__LP64__)
MUST(sizeof(MQTTConnectParams) == 128);
MUST(sizeof(MQTTClient_t) == 80);
MUST(sizeof(MQTTMessageParams) == 24);
MUST(sizeof(MQTTCallbackParams) == 40);
MUST(sizeof(MQTTSubscribeParams) == 24);
MUST(sizeof(MQTTPublishParams) == 32);
MUST(sizeof(ShadowParameters_t) == 56);
MUST(sizeof(jsonStruct_t) == 32);
#endif
MUST(RX_MESSAGE_BIGGER_THAN_MQTT_RX_BUF == -28);

/* Every function can be called and its address taken. */
typedef void (*any_function)(void);
extern any_function iotedge_all_functions[];
any_function iotedge_all_functions[] = {
	(any_function) aws_iot_mqtt_connect,
	(any_function) aws_iot_mqtt_publish,
	(any_function) aws_iot_mqtt_subscribe,
	(any_function) aws_iot_mqtt_unsubscribe,
	(any_function) aws_iot_mqtt_disconnect,
	(any_function) aws_iot_mqtt_yield,
	(any_function) aws_iot_mqtt_attempt_reconnect,
	(any_function) aws_iot_mqtt_autoreconnect_set_status,
	(any_function) aws_iot_is_mqtt_connected,
	(any_function) aws_iot_is_autoreconnect_enabled,
	(any_function) aws_iot_mqtt_init,
	(any_function) aws_iot_shadow_init,
	(any_function) aws_iot_shadow_connect,
	(any_function) aws_iot_shadow_yield,
	(any_function) aws_iot_shadow_disconnect,
	(any_function) aws_iot_shadow_update,
	(any_function) aws_iot_shadow_get,
	(any_function) aws_iot_shadow_delete,
	(any_function) aws_iot_shadow_register_delta,
	(any_function) aws_iot_shadow_get_last_received_version,
	(any_function) aws_iot_shadow_reset_last_received_version,
	(any_function) aws_iot_shadow_enable_discard_old_delta_msgs,
	(any_function) aws_iot_shadow_disable_discard_old_delta_msgs,
	(any_function) aws_iot_shadow_init_json_document,
	(any_function) aws_iot_finalize_json_document,
	(any_function) aws_iot_fill_with_client_token,
	(any_function) aws_iot_shadow_add_reported,
	(any_function) aws_iot_shadow_add_desired,
};
