/*
 * A program as an application of version 1 of the SDK has it: subscribes to a topic and publishes
 * to it, with the payload's NUL byte.
 *
 *   subscribe_publish -h HOST -p PORT -c CERTIFICATES -x COUNT
 *
 * Ends when COUNT messages have come back.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#include "aws_iot_config.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_interface.h"
#include "aws_iot_version.h"
#include "../options.h"

#define TOPIC "sdkTest/sub"

static int received = 0;

static int on_message(MQTTCallbackParams params) {
	INFO("Subscribe callback");
	INFO("%.*s\t%.*s", (int) params.TopicNameLen, params.pTopicName,
		 (int) params.MessageParams.PayloadLen, (char *) params.MessageParams.pPayload);
	received += 1;
	return 0;
}

static void on_disconnect(void) {
	WARN("MQTT Disconnect");
	if (aws_iot_is_autoreconnect_enabled()) {
		INFO("Auto Reconnect is enabled, Reconnecting attempt will start now");
	}
}

static bool goes_on(IoT_Error_t rc) {
	return rc == NETWORK_ATTEMPTING_RECONNECT || rc == RECONNECT_SUCCESSFUL || rc == NONE_ERROR;
}

int main(int argc, char **argv) {
	IoT_Error_t rc = NONE_ERROR;
	MQTTConnectParams connect = MQTTConnectParamsDefault;
	MQTTSubscribeParams subscribe = MQTTSubscribeParamsDefault;
	MQTTMessageParams message = MQTTMessageParamsDefault;
	MQTTPublishParams publish = MQTTPublishParamsDefault;
	char payload[100];
	int sent = 0;

	read_options(argc, argv);
	INFO("\nAWS IoT SDK Version %d.%d.%d-%s\n", VERSION_MAJOR, VERSION_MINOR, VERSION_PATCH,
		 VERSION_TAG);

	connect.KeepAliveInterval_sec = 10;
	connect.isCleansession = true;
	connect.MQTTVersion = MQTT_3_1_1;
	connect.pClientID = "CSDK-test-device";
	connect.pHostURL = host;
	connect.port = port;
	connect.isWillMsgPresent = false;
	connect.pRootCALocation = root_ca;
	connect.pDeviceCertLocation = certificate;
	connect.pDevicePrivateKeyLocation = private_key;
	connect.mqttCommandTimeout_ms = 2000;
	connect.tlsHandshakeTimeout_ms = 5000;
	connect.isSSLHostnameVerify = true;
	connect.disconnectHandler = on_disconnect;
	INFO("Connecting...");
	rc = aws_iot_mqtt_connect(&connect);
	if (rc != NONE_ERROR) {
		ERROR("Error(%d) connecting to %s:%d", rc, connect.pHostURL, connect.port);
		return rc;
	}
	rc = aws_iot_mqtt_autoreconnect_set_status(true);
	if (rc != NONE_ERROR) {
		ERROR("Unable to set Auto Reconnect to true - %d", rc);
		return rc;
	}

	subscribe.mHandler = on_message;
	subscribe.pTopic = TOPIC;
	subscribe.qos = QOS_0;
	INFO("Subscribing...");
	rc = aws_iot_mqtt_subscribe(&subscribe);
	if (rc != NONE_ERROR) {
		ERROR("Error subscribing");
		return rc;
	}

	message.qos = QOS_0;
	message.pPayload = (void *) payload;
	publish.pTopic = TOPIC;
	while (goes_on(rc) && received < count) {
		rc = aws_iot_mqtt_yield(100);
		if (rc == NETWORK_ATTEMPTING_RECONNECT || !goes_on(rc)) {
			continue;
		}
		if (sent < count) {
			snprintf(payload, sizeof(payload), "%s : %d ", "hello from SDK", sent++);
			message.PayloadLen = (uint32_t) strlen(payload) + 1;
			publish.MessageParams = message;
			rc = aws_iot_mqtt_publish(&publish);
		}
	}

	if (!goes_on(rc)) {
		ERROR("An error occurred in the loop: %d", rc);
	} else {
		INFO("Publish done\n");
		rc = NONE_ERROR;
	}
	return rc;
}
