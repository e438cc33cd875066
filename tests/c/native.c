/*
 * The native interface: connects, subscribes, publishes with QoS 0, 1 and 2, and waits until all
 * have come back.
 *
 *   native HOST PORT CERTIFICATES
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iotedge.h"

static int received[3];

static void on_message(const iotedge_message *message, void *user_data) {
	printf("%s\t%s\n", message->topic, (const char *) message->payload);
	if (message->qos >= 0 && message->qos <= 2 && strcmp((const char *) user_data, "data") == 0) {
		received[message->qos] += 1;
	}
}

static void must(iotedge_client *client, const char *what, iotedge_status status) {
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s: %s (%s)\n", what, iotedge_status_text(status),
				iotedge_client_error(client));
		iotedge_client_free(client);
		exit(1);
	}
}

int main(int argc, char **argv) {
	static char data[] = "data";
	iotedge_options options;
	iotedge_client *client = NULL;
	char ca[4096], certificate[4096], key[4096];
	int qos, round;

	if (argc != 4) {
		fprintf(stderr, "usage: %s HOST PORT CERTIFICATES\n", argv[0]);
		return 2;
	}
	snprintf(ca, sizeof(ca), "%s/rootCA.crt", argv[3]);
	snprintf(certificate, sizeof(certificate), "%s/cert.pem", argv[3]);
	snprintf(key, sizeof(key), "%s/privkey.pem", argv[3]);

	printf("libiotedge %s\n", iotedge_version());
	iotedge_options_init(&options);
	options.host = argv[1];
	options.port = (uint16_t) atoi(argv[2]);
	options.client_id = "native";
	options.ca_file = ca;
	options.cert_file = certificate;
	options.key_file = key;
	must(client, "new", iotedge_client_new(&options, &client));
	must(client, "connect", iotedge_client_connect(client));
	must(client, "subscribe", iotedge_client_subscribe(client, "native/#", 2, on_message, data));
	for (qos = 0; qos <= 2; ++qos) {
		const uint8_t payload[] = {'q', 'o', 's', (uint8_t) ('0' + qos)};
		must(client, "publish",
			 iotedge_publish_wait(client, "native/topic", payload, sizeof(payload), qos, false, 20000));
	}
	for (round = 0; round < 100 && received[0] + received[1] + received[2] < 3; ++round) {
		must(client, "process", iotedge_client_process(client, 100));
	}
	must(client, "unsubscribe", iotedge_client_unsubscribe(client, "native/#"));
	must(client, "disconnect", iotedge_client_disconnect(client));
	iotedge_client_free(client);
	if (received[0] + received[1] + received[2] != 3) {
		fprintf(stderr, "came back: %d %d %d\n", received[0], received[1], received[2]);
		return 1;
	}
	return 0;
}
