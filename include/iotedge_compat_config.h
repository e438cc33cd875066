/*
 * What the application's aws_iot_config.h says, on its way into the library: the library is built
 * without it. Part of the headers for programs of the SDK; nothing for applications to call.
 */
#ifndef IOTEDGE_COMPAT_CONFIG_H
#define IOTEDGE_COMPAT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The application's own configuration, where its folder is on the include path. */
#ifdef __has_include
#if __has_include("aws_iot_config.h")
#include "aws_iot_config.h"
#endif
#endif

/* What programs size their own buffers with, for configurations that are older than these. */
#ifndef AWS_IOT_MQTT_RX_BUF_LEN
#define AWS_IOT_MQTT_RX_BUF_LEN 512
#endif
#ifndef SHADOW_MAX_SIZE_OF_RX_BUFFER
#define SHADOW_MAX_SIZE_OF_RX_BUFFER (AWS_IOT_MQTT_RX_BUF_LEN + 1)
#endif
#ifndef MAX_SIZE_OF_UNIQUE_CLIENT_ID_BYTES
#define MAX_SIZE_OF_UNIQUE_CLIENT_ID_BYTES 80
#endif
#ifndef MAX_SIZE_CLIENT_ID_WITH_SEQUENCE
#define MAX_SIZE_CLIENT_ID_WITH_SEQUENCE (MAX_SIZE_OF_UNIQUE_CLIENT_ID_BYTES + 10)
#endif
#ifndef MAX_SIZE_CLIENT_TOKEN_CLIENT_SEQUENCE
#define MAX_SIZE_CLIENT_TOKEN_CLIENT_SEQUENCE (MAX_SIZE_CLIENT_ID_WITH_SEQUENCE + 20)
#endif
#ifndef MAX_JSON_TOKEN_EXPECTED
#define MAX_JSON_TOKEN_EXPECTED 120
#endif
#ifndef MAX_SIZE_OF_THING_NAME
#define MAX_SIZE_OF_THING_NAME 20
#endif
#ifndef MAX_SHADOW_TOPIC_LENGTH_WITHOUT_THINGNAME
#define MAX_SHADOW_TOPIC_LENGTH_WITHOUT_THINGNAME 60
#endif
#ifndef MAX_SHADOW_TOPIC_LENGTH_BYTES
#define MAX_SHADOW_TOPIC_LENGTH_BYTES \
	(MAX_SHADOW_TOPIC_LENGTH_WITHOUT_THINGNAME + MAX_SIZE_OF_THING_NAME)
#endif
#ifndef MAX_SIZE_OF_JOB_ID
#define MAX_SIZE_OF_JOB_ID 64
#endif
#ifndef MAX_JOB_JSON_TOKEN_EXPECTED
#define MAX_JOB_JSON_TOKEN_EXPECTED 120
#endif
#ifndef MAX_JOB_TOPIC_LENGTH_WITHOUT_JOB_ID_OR_THING_NAME
#define MAX_JOB_TOPIC_LENGTH_WITHOUT_JOB_ID_OR_THING_NAME 40
#endif
#ifndef MAX_JOB_TOPIC_LENGTH_BYTES
#define MAX_JOB_TOPIC_LENGTH_BYTES \
	(MAX_JOB_TOPIC_LENGTH_WITHOUT_JOB_ID_OR_THING_NAME + MAX_SIZE_OF_THING_NAME + \
	 MAX_SIZE_OF_JOB_ID + 2)
#endif

/* For objects and functions of headers that not every program uses. */
#if defined(__GNUC__)
#define IOTEDGE_MAYBE_UNUSED __attribute__((unused))
#else
#define IOTEDGE_MAYBE_UNUSED
#endif

/* Version 1 gave up earlier. */
#ifndef IOTEDGE_COMPAT_MAX_RECONNECT_WAIT
#define IOTEDGE_COMPAT_MAX_RECONNECT_WAIT 128000
#endif

struct iotedge_compat_config {
	size_t size;
	uint32_t tx_buf_len;
	uint32_t rx_buf_len;
	uint32_t num_subscribe_handlers;
	uint32_t min_reconnect_wait_ms;
	uint32_t max_reconnect_wait_ms;
	uint32_t disable_metrics;
	uint32_t max_shadow_acks;
	uint32_t max_shadow_deltas;
	uint32_t shadow_rx_buf_len;
};

static inline struct iotedge_compat_config iotedge_compat_config_of_application(void) {
	struct iotedge_compat_config config;
	config.size = sizeof(config);
#ifdef AWS_IOT_MQTT_TX_BUF_LEN
	config.tx_buf_len = AWS_IOT_MQTT_TX_BUF_LEN;
#else
	config.tx_buf_len = 512;
#endif
#ifdef AWS_IOT_MQTT_RX_BUF_LEN
	config.rx_buf_len = AWS_IOT_MQTT_RX_BUF_LEN;
#else
	config.rx_buf_len = 512;
#endif
#ifdef AWS_IOT_MQTT_NUM_SUBSCRIBE_HANDLERS
	config.num_subscribe_handlers = AWS_IOT_MQTT_NUM_SUBSCRIBE_HANDLERS;
#else
	config.num_subscribe_handlers = 5;
#endif
#ifdef AWS_IOT_MQTT_MIN_RECONNECT_WAIT_INTERVAL
	config.min_reconnect_wait_ms = AWS_IOT_MQTT_MIN_RECONNECT_WAIT_INTERVAL;
#else
	config.min_reconnect_wait_ms = 1000;
#endif
#ifdef AWS_IOT_MQTT_MAX_RECONNECT_WAIT_INTERVAL
	config.max_reconnect_wait_ms = AWS_IOT_MQTT_MAX_RECONNECT_WAIT_INTERVAL;
#else
	config.max_reconnect_wait_ms = IOTEDGE_COMPAT_MAX_RECONNECT_WAIT;
#endif
#ifdef DISABLE_METRICS
	config.disable_metrics = (DISABLE_METRICS) ? 1 : 0;
#else
	config.disable_metrics = 0;
#endif
#ifdef MAX_ACKS_TO_COMEIN_AT_ANY_GIVEN_TIME
	config.max_shadow_acks = MAX_ACKS_TO_COMEIN_AT_ANY_GIVEN_TIME;
#else
	config.max_shadow_acks = 10;
#endif
#ifdef MAX_JSON_TOKEN_EXPECTED
	config.max_shadow_deltas = MAX_JSON_TOKEN_EXPECTED;
#else
	config.max_shadow_deltas = 120;
#endif
#ifdef SHADOW_MAX_SIZE_OF_RX_BUFFER
	config.shadow_rx_buf_len = SHADOW_MAX_SIZE_OF_RX_BUFFER;
#else
	config.shadow_rx_buf_len = config.rx_buf_len + 1;
#endif
	return config;
}

#endif
