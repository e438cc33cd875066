/*
 * network_interface.h by itself: a CONNECT written by hand, its CONNACK read in two pieces, and
 * what comes when nothing comes.
 *
 *   network HOST PORT CERTIFICATES
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws_iot_config.h"
#include "network_interface.h"

static int failed = 0;

static void must(const char *what, int got, int expected) {
	if (got != expected) {
		fprintf(stderr, "%s: %d, not %d\n", what, got, expected);
		failed = 1;
	}
}

int main(int argc, char **argv) {
	unsigned char connect[] = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01n";
	unsigned char answer[4];
	char ca[4096], certificate[4096], key[4096];
	Network network;
	Timer timer;
	size_t count = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: %s HOST PORT CERTIFICATES\n", argv[0]);
		return 2;
	}
	snprintf(ca, sizeof(ca), "%s/%s", argv[3], AWS_IOT_ROOT_CA_FILENAME);
	snprintf(certificate, sizeof(certificate), "%s/%s", argv[3], AWS_IOT_CERTIFICATE_FILENAME);
	snprintf(key, sizeof(key), "%s/%s", argv[3], AWS_IOT_PRIVATE_KEY_FILENAME);
	must("init", iot_tls_init(&network, ca, certificate, key, argv[1], (uint16_t) atoi(argv[2]), 5000, true),
		 SUCCESS);
	init_timer(&timer);
	must("expired", has_timer_expired(&timer), true);
	countdown_sec(&timer, 20);
	must("not expired", has_timer_expired(&timer), false);
	must("left", left_ms(&timer) > 19000 && left_ms(&timer) <= 20000, true);
	must("not connected", network.read(&network, answer, 1, &timer, &count),
		 NETWORK_DISCONNECTED_ERROR);
	must("connect", network.connect(&network, NULL), SUCCESS);
	must("is connected", network.isConnected(&network), NETWORK_PHYSICAL_LAYER_CONNECTED);
	must("write", network.write(&network, connect, sizeof(connect) - 1, &timer, &count), SUCCESS);
	must("written", (int) count, (int) sizeof(connect) - 1);
	must("read", network.read(&network, answer, 1, &timer, &count), SUCCESS);
	must("read on", network.read(&network, answer + 1, 3, &timer, &count), SUCCESS);
	must("count", (int) count, 3);
	must("CONNACK", memcmp(answer, "\x20\x02\x00\x00", 4), 0);
	countdown_ms(&timer, 100);
	must("nothing", network.read(&network, answer, 1, &timer, &count), NETWORK_SSL_NOTHING_TO_READ);
	must("count of nothing", (int) count, 0);
	must("expired again", has_timer_expired(&timer), true);
	must("disconnect", network.disconnect(&network), SUCCESS);
	must("disconnected", network.disconnect(&network), NETWORK_DISCONNECTED_ERROR);
	must("destroy", network.destroy(&network), SUCCESS);
	return failed;
}
