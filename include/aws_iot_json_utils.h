/*
 * Values of JSON tokens. SUCCESS, JSON_PARSE_ERROR when the token is of another kind or its value
 * does not fit, NULL_VALUE_ERROR when something is NULL.
 */
#ifndef IOTEDGE_AWS_IOT_JSON_UTILS_H
#define IOTEDGE_AWS_IOT_JSON_UTILS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "aws_iot_error.h"
#include "jsmn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 0 when the token is the string s, otherwise -1. */
int8_t jsoneq(const char *json, jsmntok_t *tok, const char *s);

IoT_Error_t parseInteger32Value(int32_t *i, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseInteger16Value(int16_t *i, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseInteger8Value(int8_t *i, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseUnsignedInteger32Value(uint32_t *i, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseUnsignedInteger16Value(uint16_t *i, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseUnsignedInteger8Value(uint8_t *i, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseFloatValue(float *f, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseDoubleValue(double *d, const char *jsonString, jsmntok_t *token);
IoT_Error_t parseBooleanValue(bool *b, const char *jsonString, jsmntok_t *token);

/*
 * A string's value with a NUL byte behind it, its escapes as they are. SHADOW_JSON_ERROR when it
 * does not fit bufLen bytes.
 */
IoT_Error_t parseStringValue(char *buf, size_t bufLen, const char *jsonString, jsmntok_t *token);

/* The value of a key among the object's own members; NULL when there is none. */
jsmntok_t *findToken(const char *key, const char *jsonString, jsmntok_t *token);

/*
 * Programs of version 2 call parseStringValue(buf, jsonString, token), which knows no size: their
 * call is told by its three arguments, and the buffer must have room for the value.
 */
static inline IoT_Error_t iotedge_parse_string_v2(char *buf, const char *jsonString,
												  jsmntok_t *token) {
	return parseStringValue(buf, (size_t) -1, jsonString, token);
}

#define IOTEDGE_PARSE_STRING(a, b, c, d, function, ...) function
#define parseStringValue(...)                                                                 \
	IOTEDGE_PARSE_STRING(__VA_ARGS__, parseStringValue, iotedge_parse_string_v2, too, few, 0) \
	(__VA_ARGS__)

#ifdef __cplusplus
}
#endif

#endif
