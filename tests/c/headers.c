/*
 * What the headers promise to compilers: every header alone and twice, all together, sizes as in
 * the SDK, and the names that applications use. Compiled, not run, as C and as C++.
 */
#include "aws_iot_mqtt_client_interface.h"
#include "aws_iot_mqtt_client_interface.h"
#include "aws_iot_error.h"
#include "aws_iot_jobs_interface.h"
#include "aws_iot_jobs_json.h"
#include "aws_iot_jobs_topics.h"
#include "aws_iot_jobs_types.h"
#include "aws_iot_json_utils.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_client.h"
#include "aws_iot_shadow_interface.h"
#include "aws_iot_shadow_json_data.h"
#include "aws_iot_shadow_key.h"
#include "aws_iot_version.h"
#include "iotedge.h"
#include "jsmn.h"
#include "network_interface.h"
#include "threads_interface.h"
#include "timer_interface.h"
#include "timer_platform.h"

#ifdef __cplusplus
#define MUST(what) static_assert(what, #what)
#else
#define MUST(what) _Static_assert(what, #what)
#endif

#if defined(__LP64__)
MUST(sizeof(IoT_Publish_Message_Params) == 24);
MUST(offsetof(IoT_Publish_Message_Params, payload) == 8);
MUST(sizeof(IoT_MQTT_Will_Options) == 40);
MUST(sizeof(IoT_Client_Connect_Params) == 96);
MUST(offsetof(IoT_Client_Connect_Params, will) == 24);
#ifdef _ENABLE_THREAD_SUPPORT_
MUST(sizeof(IoT_Client_Init_Params) == 88);
#else
MUST(sizeof(IoT_Client_Init_Params) == 80);
#endif
MUST(offsetof(IoT_Client_Init_Params, port) == 16);
MUST(offsetof(IoT_Client_Init_Params, disconnectHandlerData) == 72);
MUST(sizeof(Timer) == 16);
MUST(sizeof(ShadowInitParameters_t) == 56);
MUST(sizeof(ShadowConnectParameters_t) == 32);
MUST(sizeof(jsonStruct_t) == 40);
MUST(offsetof(jsonStruct_t, type) == 24);
MUST(offsetof(jsonStruct_t, cb) == 32);
MUST(sizeof(AwsIotJobExecutionUpdateRequest) == 48);
MUST(sizeof(AwsIotDescribeJobExecutionRequest) == 24);
MUST(sizeof(AwsIotStartNextPendingJobExecutionRequest) == 16);
#endif
MUST(sizeof(jsmntok_t) == 16);
MUST(sizeof(jsmn_parser) == 12);
MUST(sizeof(IoT_Error_t) == sizeof(int));
MUST(NETWORK_PHYSICAL_LAYER_CONNECTED == 6);
MUST(INVALID_TOPIC_TYPE_ERROR == -52);
MUST(CLIENT_STATE_PENDING_RECONNECT == 13);

/* Every function can be called and its address taken. */
typedef void (*any_function)(void);
extern any_function iotedge_all_functions[];
any_function iotedge_all_functions[] = {
	(any_function) aws_iot_mqtt_init,
	(any_function) aws_iot_mqtt_free,
	(any_function) aws_iot_mqtt_connect,
	(any_function) aws_iot_mqtt_publish,
	(any_function) aws_iot_mqtt_subscribe,
	(any_function) aws_iot_mqtt_resubscribe,
	(any_function) aws_iot_mqtt_unsubscribe,
	(any_function) aws_iot_mqtt_disconnect,
	(any_function) aws_iot_mqtt_yield,
	(any_function) aws_iot_mqtt_attempt_reconnect,
	(any_function) aws_iot_mqtt_get_next_packet_id,
	(any_function) aws_iot_mqtt_set_connect_params,
	(any_function) aws_iot_mqtt_is_client_connected,
	(any_function) aws_iot_mqtt_get_client_state,
	(any_function) aws_iot_is_autoreconnect_enabled,
	(any_function) aws_iot_mqtt_set_disconnect_handler,
	(any_function) aws_iot_mqtt_autoreconnect_set_status,
	(any_function) aws_iot_mqtt_get_network_disconnected_count,
	(any_function) aws_iot_mqtt_reset_network_disconnected_count,
	(any_function) aws_iot_shadow_init,
	(any_function) aws_iot_shadow_free,
	(any_function) aws_iot_shadow_connect,
	(any_function) aws_iot_shadow_yield,
	(any_function) aws_iot_shadow_disconnect,
	(any_function) aws_iot_shadow_update,
	(any_function) aws_iot_shadow_get,
	(any_function) aws_iot_shadow_delete,
	(any_function) aws_iot_shadow_register_delta,
	(any_function) aws_iot_shadow_reset_last_received_version,
	(any_function) aws_iot_shadow_get_last_received_version,
	(any_function) aws_iot_shadow_enable_discard_old_delta_msgs,
	(any_function) aws_iot_shadow_disable_discard_old_delta_msgs,
	(any_function) aws_iot_shadow_set_autoreconnect_status,
	(any_function) aws_iot_shadow_init_json_document,
	(any_function) aws_iot_shadow_add_reported,
	(any_function) aws_iot_shadow_add_desired,
	(any_function) aws_iot_finalize_json_document,
	(any_function) aws_iot_fill_with_client_token,
	(any_function) aws_iot_jobs_get_api_topic,
	(any_function) aws_iot_jobs_map_string_to_job_status,
	(any_function) aws_iot_jobs_map_status_to_string,
	(any_function) aws_iot_jobs_json_serialize_update_job_execution_request,
	(any_function) aws_iot_jobs_json_serialize_client_token_only_request,
	(any_function) aws_iot_jobs_json_serialize_describe_job_execution_request,
	(any_function) aws_iot_jobs_json_serialize_start_next_job_execution_request,
	(any_function) aws_iot_jobs_subscribe_to_job_messages,
	(any_function) aws_iot_jobs_subscribe_to_all_job_messages,
	(any_function) aws_iot_jobs_unsubscribe_from_job_messages,
	(any_function) aws_iot_jobs_send_query,
	(any_function) aws_iot_jobs_start_next,
	(any_function) aws_iot_jobs_describe,
	(any_function) aws_iot_jobs_send_update,
	(any_function) jsmn_init,
	(any_function) jsmn_parse,
	(any_function) jsoneq,
	(any_function) findToken,
	(any_function) parseInteger32Value,
	(any_function) parseInteger16Value,
	(any_function) parseInteger8Value,
	(any_function) parseUnsignedInteger32Value,
	(any_function) parseUnsignedInteger16Value,
	(any_function) parseUnsignedInteger8Value,
	(any_function) parseFloatValue,
	(any_function) parseDoubleValue,
	(any_function) parseBooleanValue,
	(any_function) parseStringValue,
	(any_function) iot_tls_init,
	(any_function) iot_tls_connect,
	(any_function) iot_tls_write,
	(any_function) iot_tls_read,
	(any_function) iot_tls_disconnect,
	(any_function) iot_tls_destroy,
	(any_function) iot_tls_is_connected,
	(any_function) init_timer,
	(any_function) has_timer_expired,
	(any_function) countdown_ms,
	(any_function) countdown_sec,
	(any_function) left_ms,
	(any_function) delay,
#ifdef _ENABLE_THREAD_SUPPORT_
	(any_function) aws_iot_thread_mutex_init,
	(any_function) aws_iot_thread_mutex_lock,
	(any_function) aws_iot_thread_mutex_trylock,
	(any_function) aws_iot_thread_mutex_unlock,
	(any_function) aws_iot_thread_mutex_destroy,
#endif
};

/* The log macros stand with and without a semicolon, and return what they are given. */
int iotedge_uses_log(int value);
int iotedge_uses_log(int value) {
	FUNC_ENTRY;
	IOT_DEBUG("%d", value);
	IOT_INFO("%d", value)
	IOT_WARN("%d", value);
	IOT_ERROR("%d", value)
	IOT_UNUSED(value);
	FUNC_EXIT_RC(value);
}
