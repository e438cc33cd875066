/*
 * The server closes; the program writes on without looking. It must live to see an error: a
 * library raises no SIGPIPE in other people's programs.
 *
 *   closed_socket HOST PORT CERTIFICATES
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws_iot_config.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_client_interface.h"

int main(int argc, char **argv) {
	AWS_IoT_Client client;
	IoT_Client_Init_Params init = iotClientInitParamsDefault;
	IoT_Client_Connect_Params connect = iotClientConnectParamsDefault;
	IoT_Publish_Message_Params params;
	IoT_Error_t rc;
	char ca[4096], certificate[4096], key[4096], payload[400];
	int round;

	if (argc != 4) {
		fprintf(stderr, "usage: %s HOST PORT CERTIFICATES\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_DFL);
	snprintf(ca, sizeof(ca), "%s/%s", argv[3], AWS_IOT_ROOT_CA_FILENAME);
	snprintf(certificate, sizeof(certificate), "%s/%s", argv[3], AWS_IOT_CERTIFICATE_FILENAME);
	snprintf(key, sizeof(key), "%s/%s", argv[3], AWS_IOT_PRIVATE_KEY_FILENAME);
	init.enableAutoReconnect = false;
	init.pHostURL = argv[1];
	init.port = (uint16_t) atoi(argv[2]);
	init.pRootCALocation = ca;
	init.pDeviceCertLocation = certificate;
	init.pDevicePrivateKeyLocation = key;
	connect.pClientID = AWS_IOT_MQTT_CLIENT_ID;
	connect.clientIDLen = (uint16_t) strlen(AWS_IOT_MQTT_CLIENT_ID);
	rc = aws_iot_mqtt_init(&client, &init);
	if (rc == SUCCESS) {
		rc = aws_iot_mqtt_connect(&client, &connect);
	}
	if (rc != SUCCESS) {
		fprintf(stderr, "no connection: %d\n", rc);
		return 1;
	}

	memset(&params, 0, sizeof(params));
	memset(payload, 'x', sizeof(payload));
	params.payload = payload;
	params.payloadLen = sizeof(payload);
	for (round = 0; round < 100000 && rc == SUCCESS; ++round) {
		rc = aws_iot_mqtt_publish(&client, "t", 1, &params);
	}
	printf("publish: %d\n", rc);
	if (rc != NETWORK_SSL_WRITE_ERROR) {
		return 1;
	}
	rc = aws_iot_mqtt_yield(&client, 100);
	printf("yield: %d\n", rc);
	return rc == NETWORK_DISCONNECTED_ERROR ? 0 : 1;
}
