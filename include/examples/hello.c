/*
 * Says hello, and prints what comes back.
 *
 *   hello HOST PORT CA CERTIFICATE KEY
 *   hello SOCKET                        a gateway on this machine, by its Unix socket
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iotedge.h"

static int received = 0;

static void on_message(const iotedge_message *message, void *user_data) {
	(void) user_data;
	printf("%s: %s\n", message->topic, (const char *) message->payload);
	received += 1;
}

static void on_log(int level, const char *text, void *user_data) {
	(void) user_data;
	fprintf(stderr, "%s%s\n", level == 1 ? "error: " : level == 2 ? "warning: " : "", text);
}

static iotedge_status hello(iotedge_client *client) {
	static const char text[] = "hello";
	iotedge_status status = iotedge_client_connect(client);
	if (status == IOTEDGE_OK) {
		status = iotedge_client_subscribe(client, "demo/hello", 1, on_message, NULL);
	}
	if (status == IOTEDGE_OK) {
		/* Returns when the gateway has the message. */
		status = iotedge_publish_wait(client, "demo/hello", (const uint8_t *) text, strlen(text),
									  1, false, 5000);
	}
	while (status == IOTEDGE_OK && received == 0) {
		status = iotedge_client_process(client, 1000);
	}
	return status;
}

int main(int argc, char **argv) {
	iotedge_options options;
	iotedge_client *client;
	iotedge_status status;

	iotedge_options_init(&options);
	options.client_id = "hello";
	if (argc == 2) {
		options.socket_path = argv[1];
	} else if (argc == 6) {
		options.host = argv[1];
		options.port = (uint16_t) atoi(argv[2]);
		options.ca_file = argv[3];
		options.cert_file = argv[4];
		options.key_file = argv[5];
	} else {
		fprintf(stderr, "usage: hello HOST PORT CA CERTIFICATE KEY | hello SOCKET\n");
		return 2;
	}
	iotedge_set_log_callback(3, on_log, NULL);
	status = iotedge_client_new(&options, &client);
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s\n", iotedge_status_text(status));
		return 1;
	}
	status = hello(client);
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s: %s\n", iotedge_status_text(status), iotedge_client_error(client));
	}
	iotedge_client_free(client);
	return status == IOTEDGE_OK ? 0 : 1;
}
