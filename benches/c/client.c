/*
 * What a client library costs, for benches/clients.py: built once with libiotedge and, with
 * -DMOSQUITTO, once with libmosquitto. No threads: the program's own loop drives both.
 *
 *   client PORT CA qos0|qos1 MESSAGES     publishes, and waits until the server has all
 *   client PORT CA memory CLIENTS         connects so many, each with a subscription
 *
 * Prints seconds and processor seconds, or bytes of memory for each client.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TOPIC "bench/client"
#define IN_FLIGHT 32
/* Messages that may be under way before the program waits. */
#define AHEAD 1000

static const char payload[64] = "0123456789";
static int port;
static const char *ca;
static long acknowledged;

static void fail(const char *what, const char *why) {
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

#ifdef MOSQUITTO
#include <mosquitto.h>

typedef struct mosquitto client;

static void on_publish(struct mosquitto *made, void *data, int id) {
	(void) made;
	(void) data;
	(void) id;
	acknowledged += 1;
}

static void on_connack(struct mosquitto *made, void *data, int code) {
	(void) made;
	*(bool *) data = code == 0;
}

static void on_suback(struct mosquitto *made, void *data, int id, int count, const int *granted) {
	(void) made;
	(void) id;
	(void) count;
	(void) granted;
	*(bool *) data = true;
}

static void turn(client *made, int ms) {
	int rc = mosquitto_loop(made, ms, 1);
	if (rc != MOSQ_ERR_SUCCESS) fail("loop", mosquitto_strerror(rc));
}

static client *connected(const char *id) {
	bool *done = calloc(1, sizeof(*done));
	client *made = mosquitto_new(id, true, done);
	int rc;
	mosquitto_max_inflight_messages_set(made, IN_FLIGHT);
	mosquitto_publish_callback_set(made, on_publish);
	mosquitto_connect_callback_set(made, on_connack);
	mosquitto_subscribe_callback_set(made, on_suback);
	rc = mosquitto_tls_set(made, ca, NULL, NULL, NULL, NULL);
	if (rc == MOSQ_ERR_SUCCESS) rc = mosquitto_connect(made, "localhost", port, 60);
	if (rc != MOSQ_ERR_SUCCESS) fail("connect", mosquitto_strerror(rc));
	while (!*done) turn(made, 1000);
	*done = false;
	return made;
}

static void subscribe(client *made, const char *topic) {
	bool *done = mosquitto_userdata(made);
	int rc = mosquitto_subscribe(made, NULL, topic, 1);
	if (rc != MOSQ_ERR_SUCCESS) fail("subscribe", mosquitto_strerror(rc));
	while (!*done) turn(made, 1000);
}

static void publish(client *made, int qos) {
	int rc = mosquitto_publish(made, NULL, TOPIC, sizeof(payload), payload, qos, false);
	if (rc != MOSQ_ERR_SUCCESS) fail("publish", mosquitto_strerror(rc));
}

#else
#include <iotedge.h>
#include <poll.h>

typedef iotedge_client client;

static void on_delivery(iotedge_status status, void *data) {
	(void) data;
	if (status != IOTEDGE_OK) fail("delivery", iotedge_status_text(status));
	acknowledged += 1;
}

static void on_message(const iotedge_message *message, void *data) {
	(void) message;
	(void) data;
}

/* As mosquitto_loop: waits until there is something to do, and does it. */
static void turn(client *made, int ms) {
	struct pollfd fd = {iotedge_client_fd(made), POLLIN, 0};
	iotedge_status status;
	if (ms > 0) poll(&fd, 1, ms);
	status = iotedge_client_process(made, 0);
	if (status != IOTEDGE_OK) fail("process", iotedge_client_error(made));
}

static client *connected(const char *id) {
	iotedge_options options;
	client *made;
	iotedge_options_init(&options);
	options.host = "localhost";
	options.port = (uint16_t) port;
	options.ca_file = ca;
	options.client_id = id;
	options.max_in_flight = IN_FLIGHT;
	if (iotedge_client_new(&options, &made) != IOTEDGE_OK) fail("new", "options");
	if (iotedge_client_connect(made) != IOTEDGE_OK) fail("connect", iotedge_client_error(made));
	return made;
}

static void subscribe(client *made, const char *topic) {
	if (iotedge_client_subscribe(made, topic, 1, on_message, NULL) != IOTEDGE_OK) {
		fail("subscribe", iotedge_client_error(made));
	}
}

static void publish(client *made, int qos) {
	iotedge_status status =
		iotedge_client_publish(made, TOPIC, (const uint8_t *) payload, sizeof(payload), qos, false,
							   on_delivery, NULL);
	if (status != IOTEDGE_OK) fail("publish", iotedge_client_error(made));
}
#endif

static double now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static double processor(void) {
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
		   + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* What this process alone holds, in bytes. */
static long private_bytes(void) {
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	char line[200];
	long found = 0, kilobytes;
	if (file == NULL) fail("memory", "no /proc/self/smaps_rollup");
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "Private_Dirty: %ld", &kilobytes) == 1) found += kilobytes * 1024;
	}
	fclose(file);
	return found;
}

static void rate(int qos, long count) {
	client *made = connected("bench");
	long sent;
	double start = now(), used = processor();
	for (sent = 0; sent < count; ++sent) {
		while (sent - acknowledged >= AHEAD) turn(made, 100);
		publish(made, qos);
		if (sent % 16 == 15) turn(made, 0);
	}
	/* What came before it on the connection is with the server when this is acknowledged. */
	if (qos == 0) publish(made, 1);
	while (acknowledged < count + (qos == 0)) turn(made, 100);
	printf("%.6f %.6f\n", now() - start, processor() - used);
}

static void memory(long count) {
	char id[40], topic[60];
	client *first = connected("bench-first");
	long before, number;
	subscribe(first, "bench/first");
	before = private_bytes();
	for (number = 0; number < count; ++number) {
		client *made;
		snprintf(id, sizeof(id), "bench-%ld", number);
		snprintf(topic, sizeof(topic), "bench/%ld", number);
		made = connected(id);
		subscribe(made, topic);
	}
	printf("%.0f\n", (double) (private_bytes() - before) / (double) count);
}

int main(int argc, char **argv) {
	long count;
	if (argc != 5) fail("usage", "client PORT CA qos0|qos1|memory COUNT");
	port = atoi(argv[1]);
	ca = argv[2];
	count = atol(argv[4]);
#ifdef MOSQUITTO
	mosquitto_lib_init();
#endif
	if (strcmp(argv[3], "memory") == 0) {
		memory(count);
	} else {
		rate(strcmp(argv[3], "qos1") == 0 ? 1 : 0, count);
	}
	return 0;
}
