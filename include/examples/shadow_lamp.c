/*
 * A lamp: switches when its shadow says so, and reports what it does. Its loop is its own: it waits
 * for standard input and for the client at the same time; a line of input presses the button.
 *
 *   shadow_lamp SOCKET THING
 *
 * Ends with the end of standard input.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iotedge.h"

static bool on = false;

static void on_answer(iotedge_status status, void *user_data) {
	(void) user_data;
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "report: %s\n", iotedge_status_text(status));
	}
}

/* Tells the shadow what the lamp does; wanting something else is over with the button. */
static void report(iotedge_shadow *shadow, bool by_hand) {
	printf("lamp %s\n", on ? "on" : "off");
	fflush(stdout);
	iotedge_shadow_set_bool(shadow, IOTEDGE_REPORTED, "lamp/on", on);
	if (by_hand) {
		iotedge_shadow_remove(shadow, IOTEDGE_DESIRED, "lamp/on");
	}
	iotedge_shadow_update(shadow, on_answer, NULL);
}

static void on_event(iotedge_shadow *shadow, iotedge_shadow_event event, void *user_data) {
	bool wanted = on;
	(void) user_data;
	if (event == IOTEDGE_SHADOW_ABSENT) {
		report(shadow, false);
	} else if (iotedge_shadow_get_bool(shadow, IOTEDGE_DELTA, "lamp/on", &wanted) == IOTEDGE_OK
			   && wanted != on) {
		on = wanted;
		report(shadow, false);
	} else if (event == IOTEDGE_SHADOW_READY) {
		report(shadow, false);
	}
}

/* Reads what there is; whether there may be more. */
static bool read_button(iotedge_shadow *shadow) {
	char input[64];
	ssize_t count = read(STDIN_FILENO, input, sizeof(input));
	if (count <= 0) {
		return false;
	}
	if (memchr(input, '\n', (size_t) count) != NULL) {
		on = !on;
		report(shadow, true);
	}
	return true;
}

static iotedge_status loop(iotedge_client *client, iotedge_shadow *shadow) {
	struct pollfd fds[2];
	fds[0].fd = STDIN_FILENO;
	fds[0].events = POLLIN;
	fds[1].fd = iotedge_client_fd(client);
	fds[1].events = POLLIN;
	for (;;) {
		iotedge_status status = IOTEDGE_OK;
		if (poll(fds, 2, -1) < 0) {
			perror("poll");
			return IOTEDGE_INTERNAL_ERROR;
		}
		if (fds[1].revents != 0) {
			status = iotedge_client_process(client, 0);
		}
		if (status != IOTEDGE_OK && status != IOTEDGE_RECONNECTING) {
			return status;
		}
		if (fds[0].revents != 0 && !read_button(shadow)) {
			/* What was reported last is on its way. */
			while (status == IOTEDGE_OK && iotedge_client_unacknowledged(client) > 0) {
				status = iotedge_client_process(client, 100);
			}
			return status;
		}
	}
}

int main(int argc, char **argv) {
	iotedge_options options;
	iotedge_client *client;
	iotedge_shadow *shadow = NULL;
	iotedge_status status;

	if (argc != 3) {
		fprintf(stderr, "usage: shadow_lamp SOCKET THING\n");
		return 2;
	}
	iotedge_options_init(&options);
	options.socket_path = argv[1];
	options.client_id = argv[2];
	options.auto_reconnect = true;
	status = iotedge_client_new(&options, &client);
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s\n", iotedge_status_text(status));
		return 1;
	}
	status = iotedge_client_connect(client);
	if (status == IOTEDGE_OK) {
		status = iotedge_shadow_new(client, argv[2], NULL, on_event, NULL, &shadow);
	}
	if (status == IOTEDGE_OK) {
		status = loop(client, shadow);
	}
	if (status != IOTEDGE_OK) {
		fprintf(stderr, "%s: %s\n", iotedge_status_text(status), iotedge_client_error(client));
	}
	iotedge_shadow_free(shadow);
	iotedge_client_free(client);
	return status == IOTEDGE_OK ? 0 : 1;
}
