/*
 * A program as an application of the SDK has it: whatever a delta wants of the whole state, it
 * reports.
 *
 *   shadow_echo -h HOST -p PORT -c CERTIFICATES -x COUNT
 *
 * Ends when COUNT reports were accepted.
 */
#include <stdbool.h>
#include <stdio.h>

#include "aws_iot_config.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_interface.h"
#include "aws_iot_shadow_interface.h"
#include "aws_iot_version.h"
#include "../options.h"

static char to_report[SHADOW_MAX_SIZE_OF_RX_BUFFER];
static bool arrived = false;
static int accepted = 0;

static bool build(char *report, size_t size, const char *received, uint32_t received_length) {
	char token[MAX_SIZE_CLIENT_TOKEN_CLIENT_SEQUENCE];
	int length;
	if (aws_iot_fill_with_client_token(token, sizeof(token)) != NONE_ERROR) {
		return false;
	}
	length = snprintf(report, size, "{\"state\":{\"reported\":%.*s}, \"clientToken\":\"%s\"}",
					  (int) received_length, received, token);
	return length >= 0 && (size_t) length < size;
}

static void on_delta(const char *json, uint32_t length, jsonStruct_t *member) {
	(void) json;
	(void) length;
	(void) member;
	INFO("Received Delta message %.*s", (int) length, json);
	if (build(to_report, sizeof(to_report), json, length)) {
		arrived = true;
	}
}

static void on_update(const char *thing, ShadowActions_t action, Shadow_Ack_Status_t status,
					  const char *document, void *context) {
	(void) thing;
	(void) action;
	(void) document;
	(void) context;
	if (status == SHADOW_ACK_TIMEOUT) {
		INFO("Update Timeout--");
	} else if (status == SHADOW_ACK_REJECTED) {
		INFO("Update RejectedXX");
	} else {
		INFO("Update Accepted !!");
		accepted += 1;
	}
}

int main(int argc, char **argv) {
	MQTTClient_t client;
	ShadowParameters_t parameters = ShadowParametersDefault;
	jsonStruct_t delta;
	IoT_Error_t rc;

	read_options(argc, argv);
	aws_iot_mqtt_init(&client);
	parameters.pMyThingName = AWS_IOT_MY_THING_NAME;
	parameters.pMqttClientId = AWS_IOT_MQTT_CLIENT_ID;
	parameters.pHost = host;
	parameters.port = port;
	parameters.pClientCRT = certificate;
	parameters.pClientKey = private_key;
	parameters.pRootCA = root_ca;
	INFO("Shadow Init");
	rc = aws_iot_shadow_init(&client);
	if (rc != NONE_ERROR) {
		ERROR("Shadow Init Error %d", rc);
		return rc;
	}
	INFO("Shadow Connect");
	rc = aws_iot_shadow_connect(&client, &parameters);
	if (rc != NONE_ERROR) {
		ERROR("Shadow Connection Error %d", rc);
		return rc;
	}
	rc = client.setAutoReconnectStatus(true);
	if (rc != NONE_ERROR) {
		ERROR("Unable to set Auto Reconnect to true - %d", rc);
		return rc;
	}

	delta.pData = to_report;
	delta.pKey = "state";
	delta.type = SHADOW_JSON_OBJECT;
	delta.cb = on_delta;

	rc = aws_iot_shadow_register_delta(&client, &delta);
	INFO("Listening for deltas");

	while (rc == NETWORK_ATTEMPTING_RECONNECT || rc == RECONNECT_SUCCESSFUL || rc == NONE_ERROR) {
		if (accepted >= count) {
			break;
		}
		rc = aws_iot_shadow_yield(&client, 200);
		if (rc == NETWORK_ATTEMPTING_RECONNECT) {
			continue;
		}
		if (arrived) {
			INFO("Sending delta message back %s", to_report);
			rc = aws_iot_shadow_update(&client, AWS_IOT_MY_THING_NAME, to_report, on_update, NULL, 2,
									   true);
			arrived = false;
		}
	}
	if (rc != NONE_ERROR) {
		ERROR("An error occurred in the loop %d", rc);
	}
	rc = aws_iot_shadow_disconnect(&client);
	return rc;
}
