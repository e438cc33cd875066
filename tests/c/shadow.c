/*
 * A program as an application of the SDK has it: reports a temperature and a window's state to its
 * shadow again and again, and opens or shuts the window when a delta says so.
 *
 *   shadow -h HOST -p PORT -c CERTIFICATES -x COUNT
 *
 * Ends when COUNT reports were accepted.
 */
#include <stdbool.h>
#include <stdio.h>

#include "aws_iot_config.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_client_interface.h"
#include "aws_iot_shadow_interface.h"
#include "aws_iot_version.h"
#include "options.h"

#define DOCUMENT_SIZE 200

static bool update_in_progress = false;
static int accepted = 0;

static void on_update(const char *thing, ShadowActions_t action, Shadow_Ack_Status_t status,
					  const char *document, void *context) {
	(void) thing;
	(void) action;
	(void) document;
	(void) context;
	update_in_progress = false;
	if (status == SHADOW_ACK_TIMEOUT) {
		IOT_INFO("Update Timeout--");
	} else if (status == SHADOW_ACK_REJECTED) {
		IOT_INFO("Update RejectedXX %s", document);
	} else {
		IOT_INFO("Update Accepted !!");
		accepted += 1;
	}
}

static void on_window(const char *json, uint32_t length, jsonStruct_t *member) {
	(void) json;
	(void) length;
	if (member != NULL) {
		IOT_INFO("Delta - Window state changed to %d", *(bool *) member->pData);
	}
}

static float next_temperature(float temperature) {
	return temperature >= 32.0f ? 25.0f : temperature + 0.5f;
}

int main(int argc, char **argv) {
	AWS_IoT_Client client;
	ShadowInitParameters_t init = ShadowInitParametersDefault;
	ShadowConnectParameters_t connect = ShadowConnectParametersDefault;
	char document[DOCUMENT_SIZE];
	const size_t size = sizeof(document) / sizeof(document[0]);
	float temperature = 25.0f;
	bool window_open = false;
	jsonStruct_t window;
	jsonStruct_t temperature_member;
	IoT_Error_t rc;

	window.cb = on_window;
	window.pData = &window_open;
	window.pKey = "windowOpen";
	window.type = SHADOW_JSON_BOOL;
	temperature_member.cb = NULL;
	temperature_member.pKey = "temperature";
	temperature_member.pData = &temperature;
	temperature_member.type = SHADOW_JSON_FLOAT;
	window.dataLength = sizeof(bool);
	temperature_member.dataLength = sizeof(float);
	read_options(argc, argv);
	init.pHost = host;
	init.port = port;
	init.pClientCRT = certificate;
	init.pClientKey = private_key;
	init.pRootCA = root_ca;
	init.enableAutoReconnect = false;
	init.disconnectHandler = NULL;
	rc = aws_iot_shadow_init(&client, &init);
	if (rc != SUCCESS) {
		IOT_ERROR("Shadow Connection Error %d", rc);
		return rc;
	}
	connect.pMyThingName = AWS_IOT_MY_THING_NAME;
	connect.pMqttClientId = AWS_IOT_MQTT_CLIENT_ID;
	connect.mqttClientIdLen = (uint16_t) strlen(AWS_IOT_MQTT_CLIENT_ID);
	IOT_INFO("Shadow Connect");
	rc = aws_iot_shadow_connect(&client, &connect);
	if (rc != SUCCESS) {
		IOT_ERROR("Shadow Connection Error %d", rc);
		return rc;
	}
	rc = aws_iot_shadow_set_autoreconnect_status(&client, true);
	if (rc != SUCCESS) {
		IOT_ERROR("Unable to set Auto Reconnect to true - %d", rc);
		return rc;
	}

	rc = aws_iot_shadow_register_delta(&client, &window);
	if (rc != SUCCESS) {
		IOT_ERROR("Shadow Register Delta Error %d", rc);
		return rc;
	}

	while (rc == NETWORK_ATTEMPTING_RECONNECT || rc == NETWORK_RECONNECTED || rc == SUCCESS) {
		if (accepted >= count) {
			break;
		}
		rc = aws_iot_shadow_yield(&client, 200);
		if (rc == NETWORK_ATTEMPTING_RECONNECT || update_in_progress) {
			continue;
		}
		IOT_INFO("On Device: window state %s", window_open ? "true" : "false");
		temperature = next_temperature(temperature);
		rc = aws_iot_shadow_init_json_document(document, size);
		if (rc == SUCCESS) {
			rc = aws_iot_shadow_add_reported(document, size, 2, &temperature_member, &window);
		}
		if (rc == SUCCESS) {
			rc = aws_iot_finalize_json_document(document, size);
		}
		if (rc == SUCCESS) {
			IOT_INFO("Update Shadow: %s", document);
			rc = aws_iot_shadow_update(&client, AWS_IOT_MY_THING_NAME, document, on_update, NULL, 4,
									   true);
			update_in_progress = true;
		}
	}
	if (rc != SUCCESS) {
		IOT_ERROR("An error occurred in the loop %d", rc);
	}

	IOT_INFO("Disconnecting");
	rc = aws_iot_shadow_disconnect(&client);
	if (rc != SUCCESS) {
		IOT_ERROR("Disconnect error %d", rc);
	}
	return rc;
}
