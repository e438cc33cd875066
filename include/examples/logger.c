/*
 * Publishes each line of standard input, and forgets it when the gateway has stored it. While the
 * gateway is away lines are kept, as many as fit; a line for which there is no room waits, and
 * standard input with it.
 *
 *   logger SOCKET TOPIC
 *
 * Ends when all lines are stored, and says how many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iotedge.h"

static unsigned long stored = 0;
static unsigned long lost = 0;

static void on_delivery(iotedge_status status, void *user_data) {
	if (status == IOTEDGE_OK) {
		stored += 1;
	} else {
		fprintf(stderr, "lost: %s: %s\n", (char *) user_data, iotedge_status_text(status));
		lost += 1;
	}
	free(user_data);
}

/* Hands a line over; takes its time when there is no room. */
static iotedge_status publish(iotedge_client *client, const char *topic, const char *line) {
	char *copy = strdup(line);
	iotedge_status status;
	if (copy == NULL) {
		return IOTEDGE_LIMIT_EXCEEDED;
	}
	for (;;) {
		status = iotedge_client_publish(client, topic, (const uint8_t *) line, strlen(line), 1,
										false, on_delivery, copy);
		if (status != IOTEDGE_LIMIT_EXCEEDED || iotedge_client_unacknowledged(client) == 0) {
			break;
		}
		status = iotedge_client_process(client, 100);
		if (status != IOTEDGE_OK && status != IOTEDGE_RECONNECTING) {
			break;
		}
	}
	if (status != IOTEDGE_OK) {
		free(copy);
	}
	return status;
}

static iotedge_status log_input(iotedge_client *client, const char *topic) {
	char line[1024];
	iotedge_status status = IOTEDGE_OK;
	while ((status == IOTEDGE_OK || status == IOTEDGE_RECONNECTING)
		   && fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		status = publish(client, topic, line);
		if (status == IOTEDGE_OK) {
			status = iotedge_client_process(client, 0);
		}
	}
	while ((status == IOTEDGE_OK || status == IOTEDGE_RECONNECTING)
		   && iotedge_client_unacknowledged(client) > 0) {
		status = iotedge_client_process(client, 1000);
	}
	return status;
}

int main(int argc, char **argv) {
	iotedge_options options;
	iotedge_client *client;
	iotedge_status status;

	if (argc != 3) {
		fprintf(stderr, "usage: logger SOCKET TOPIC\n");
		return 2;
	}
	iotedge_options_init(&options);
	options.socket_path = argv[1];
	options.client_id = "logger";
	options.auto_reconnect = true;
	options.reconnect_min_ms = 200;
	options.reconnect_max_ms = 2000;
	status = iotedge_client_new(&options, &client);
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s\n", iotedge_status_text(status));
		return 1;
	}
	status = iotedge_client_connect(client);
	if (status == IOTEDGE_OK) {
		status = log_input(client, argv[2]);
	}
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s: %s\n", iotedge_status_text(status), iotedge_client_error(client));
	}
	iotedge_client_free(client);
	printf("%lu stored, %lu lost\n", stored, lost);
	return status == IOTEDGE_OK && lost == 0 ? 0 : 1;
}
