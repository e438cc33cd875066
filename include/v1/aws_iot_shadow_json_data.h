/* Documents of shadows: members of the application's memory, to and from JSON. Version 1. */
#ifndef IOTEDGE_V1_AWS_IOT_SHADOW_JSON_DATA_H
#define IOTEDGE_V1_AWS_IOT_SHADOW_JSON_DATA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../iotedge_compat_config.h"
#include "aws_iot_error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jsonStruct jsonStruct_t;

/* Is told of a member's new value, which is text of JSON (a string without its quotes). */
typedef void (*jsonStructCallback_t)(const char *pJsonValueBuffer, uint32_t valueLength,
									 jsonStruct_t *pJsonStruct_t);

/* What pData points to. An object is text of JSON; it is sent as it is and never written to. */
typedef enum {
	SHADOW_JSON_INT32 = 0,
	SHADOW_JSON_INT16 = 1,
	SHADOW_JSON_INT8 = 2,
	SHADOW_JSON_UINT32 = 3,
	SHADOW_JSON_UINT16 = 4,
	SHADOW_JSON_UINT8 = 5,
	SHADOW_JSON_FLOAT = 6,
	SHADOW_JSON_DOUBLE = 7,
	SHADOW_JSON_BOOL = 8,
	SHADOW_JSON_STRING = 9,
	SHADOW_JSON_OBJECT = 10
} JsonPrimitiveType;

/* A member of a document. A string must have room for what a delta can bring. */
struct jsonStruct {
	const char *pKey;
	void *pData;
	JsonPrimitiveType type;
	jsonStructCallback_t cb;
};

IoT_Error_t iotedge_v1_shadow_init_json_document(char *pJsonDocument, size_t size);
IoT_Error_t iotedge_v1_shadow_add(char *pJsonDocument, size_t size, int section, uint8_t count,
								  const jsonStruct_t *const *pMembers);
IoT_Error_t iotedge_v1_finalize_json_document(char *pJsonDocument, size_t size);
IoT_Error_t iotedge_v1_fill_with_client_token(char *pBuffer, size_t size);

/* Begins a document. */
static inline IoT_Error_t aws_iot_shadow_init_json_document(char *pJsonDocument,
															size_t maxSizeOfJsonDocument) {
	return iotedge_v1_shadow_init_json_document(pJsonDocument, maxSizeOfJsonDocument);
}

/* Ends a document, with a client token. */
static inline IoT_Error_t aws_iot_finalize_json_document(char *pJsonDocument,
														 size_t maxSizeOfJsonDocument) {
	return iotedge_v1_finalize_json_document(pJsonDocument, maxSizeOfJsonDocument);
}

/* A new client token: the client id and a number. */
static inline IoT_Error_t
aws_iot_fill_with_client_token(char *pBufferToBeUpdatedWithClientToken,
							   size_t maxSizeOfJsonDocument) {
	return iotedge_v1_fill_with_client_token(pBufferToBeUpdatedWithClientToken,
											 maxSizeOfJsonDocument);
}

/* Adds count members, each a jsonStruct_t *, to the state that the device reports. */
static IoT_Error_t aws_iot_shadow_add_reported(char *pJsonDocument, size_t maxSizeOfJsonDocument,
											   uint8_t count, ...) IOTEDGE_MAYBE_UNUSED;
static IoT_Error_t aws_iot_shadow_add_reported(char *pJsonDocument, size_t maxSizeOfJsonDocument,
											   uint8_t count, ...) {
	const jsonStruct_t *members[256];
	unsigned index;
	va_list arguments;
	va_start(arguments, count);
	for (index = 0; index < count; ++index) {
		members[index] = va_arg(arguments, const jsonStruct_t *);
	}
	va_end(arguments);
	return iotedge_v1_shadow_add(pJsonDocument, maxSizeOfJsonDocument, 0, count, members);
}

/* Adds count members, each a jsonStruct_t *, to the state that is wanted of the device. */
static IoT_Error_t aws_iot_shadow_add_desired(char *pJsonDocument, size_t maxSizeOfJsonDocument,
											  uint8_t count, ...) IOTEDGE_MAYBE_UNUSED;
static IoT_Error_t aws_iot_shadow_add_desired(char *pJsonDocument, size_t maxSizeOfJsonDocument,
											  uint8_t count, ...) {
	const jsonStruct_t *members[256];
	unsigned index;
	va_list arguments;
	va_start(arguments, count);
	for (index = 0; index < count; ++index) {
		members[index] = va_arg(arguments, const jsonStruct_t *);
	}
	va_end(arguments);
	return iotedge_v1_shadow_add(pJsonDocument, maxSizeOfJsonDocument, 1, count, members);
}

#ifdef __cplusplus
}
#endif

#endif
