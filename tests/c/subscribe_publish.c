/*
 * A program as an application of the SDK has it: connects with a certificate, subscribes to a
 * topic, publishes to it with QoS 0 and QoS 1 in turn, and prints what comes back.
 *
 *   subscribe_publish -h HOST -p PORT -c CERTIFICATES -x COUNT
 *
 * CERTIFICATES is a folder with rootCA.crt, cert.pem and privkey.pem. Ends after COUNT messages
 * when all have come back; with -x 0, never.
 */
#include <stdio.h>
#include <string.h>

#include "aws_iot_config.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_client_interface.h"
#include "aws_iot_version.h"
#include "options.h"

#define TOPIC "sdkTest/sub"

/* How many messages have come back. */
static int received = 0;

static void on_message(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					   IoT_Publish_Message_Params *params, void *data) {
	IOT_UNUSED(client);
	IOT_UNUSED(topic);
	IOT_UNUSED(topic_len);
	IOT_UNUSED(params);
	received += 1;
	*(int *) data = received;
	IOT_INFO("Subscribe callback");
	IOT_INFO("%.*s\t%.*s", (int) topic_len, topic, (int) params->payloadLen,
			 (const char *) params->payload);
}

static void on_disconnect(AWS_IoT_Client *client, void *data) {
	IOT_UNUSED(data);
	IOT_WARN("MQTT disconnect");
	if (client != NULL && aws_iot_is_autoreconnect_enabled(client)) {
		IOT_INFO("Auto reconnect is enabled, yield will reconnect");
	}
}

static IoT_Error_t publish(AWS_IoT_Client *client, int number) {
	IoT_Publish_Message_Params params;
	char payload[100];
	memset(&params, 0, sizeof(params));
	params.qos = number % 2 == 0 ? QOS0 : QOS1;
	snprintf(payload, sizeof(payload), "hello from SDK QOS%d : %d ", (int) params.qos, number);
	params.payload = (void *) payload;
	params.payloadLen = strlen(payload);
	return aws_iot_mqtt_publish(client, TOPIC, (uint16_t) strlen(TOPIC), &params);
}

/* Whether the program's loop may go on after this. */
static bool goes_on(IoT_Error_t rc) {
	return rc == SUCCESS || rc == NETWORK_RECONNECTED || rc == NETWORK_ATTEMPTING_RECONNECT;
}

static IoT_Error_t publish_and_receive(AWS_IoT_Client *client) {
	IoT_Error_t rc = SUCCESS;
	int sent = 0;
	int idle = 0;
	while (goes_on(rc) && (count == 0 || sent < count)) {
		rc = aws_iot_mqtt_yield(client, 100);
		if (rc == NETWORK_ATTEMPTING_RECONNECT || !goes_on(rc)) {
			continue;
		}
		rc = publish(client, sent);
		if (rc == MQTT_REQUEST_TIMEOUT_ERROR) {
			IOT_WARN("QOS1 publish ack not received");
			rc = SUCCESS;
		}
		sent += 1;
	}
	/* What is still on its way back. */
	for (idle = 0; goes_on(rc) && received < sent && idle < 100; ++idle) {
		rc = aws_iot_mqtt_yield(client, 100);
	}
	if (goes_on(rc) && received < sent) {
		IOT_ERROR("only %d of %d messages came back", received, sent);
		return FAILURE;
	}
	return rc;
}

int main(int argc, char **argv) {
	static int last = 0;
	AWS_IoT_Client client;
	IoT_Client_Init_Params init = iotClientInitParamsDefault;
	IoT_Client_Connect_Params connect = iotClientConnectParamsDefault;
	IoT_Error_t rc;

	read_options(argc, argv);
	IOT_INFO("\nAWS IoT SDK Version %d.%d.%d-%s\n", VERSION_MAJOR, VERSION_MINOR, VERSION_PATCH,
			 VERSION_TAG);

	init.enableAutoReconnect = false; /* switched on below */
	init.pHostURL = host;
	init.port = port;
	init.pRootCALocation = root_ca;
	init.pDeviceCertLocation = certificate;
	init.pDevicePrivateKeyLocation = private_key;
	init.mqttCommandTimeout_ms = 20000;
	init.tlsHandshakeTimeout_ms = 5000;
	init.isSSLHostnameVerify = true;
	init.disconnectHandler = on_disconnect;
	init.disconnectHandlerData = NULL;
	rc = aws_iot_mqtt_init(&client, &init);
	if (rc != SUCCESS) {
		IOT_ERROR("aws_iot_mqtt_init returned error : %d ", rc);
		return rc;
	}

	connect.keepAliveIntervalInSec = 600;
	connect.isCleanSession = true;
	connect.MQTTVersion = MQTT_3_1_1;
	connect.pClientID = AWS_IOT_MQTT_CLIENT_ID;
	connect.clientIDLen = (uint16_t) strlen(AWS_IOT_MQTT_CLIENT_ID);
	connect.isWillMsgPresent = false;
	IOT_INFO("Connecting...");
	rc = aws_iot_mqtt_connect(&client, &connect);
	if (rc != SUCCESS) {
		IOT_ERROR("Error(%d) connecting to %s:%d", rc, host, port);
		return rc;
	}
	rc = aws_iot_mqtt_autoreconnect_set_status(&client, true);
	if (rc != SUCCESS) {
		IOT_ERROR("Unable to set Auto Reconnect to true - %d", rc);
		return rc;
	}

	IOT_INFO("Subscribing...");
	rc = aws_iot_mqtt_subscribe(&client, TOPIC, (uint16_t) strlen(TOPIC), QOS1, on_message, &last);
	if (rc != SUCCESS) {
		IOT_ERROR("Error subscribing : %d ", rc);
		return rc;
	}

	rc = publish_and_receive(&client);
	if (goes_on(rc)) {
		IOT_INFO("Publish done\n");
		rc = SUCCESS;
	} else {
		IOT_ERROR("An error occurred in the loop: %d", rc);
	}
	return rc;
}
