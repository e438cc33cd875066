/*
 * A program with threads, as the SDK has them behind _ENABLE_THREAD_SUPPORT_: two clients, each
 * shared by several threads that publish while one yields.
 *
 *   threads -h HOST -p PORT -c CERTIFICATES -x MESSAGES
 *
 * Ends when each client has got its messages back: MESSAGES of each of its threads.
 */
#ifndef _ENABLE_THREAD_SUPPORT_
#define _ENABLE_THREAD_SUPPORT_
#endif

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "aws_iot_config.h"
#include "aws_iot_mqtt_client_interface.h"
#include "options.h"

#define CLIENTS 2
#define PUBLISHERS 3

static const char *const ids[CLIENTS] = {"threads-1", "threads-2"};
static const char *const topics[CLIENTS] = {"sdkTest/threads/1", "sdkTest/threads/2"};

struct shared {
	AWS_IoT_Client client;
	const char *topic;
	IoT_Mutex_t lock;
	int received;
	bool failed;
};

static void fail(struct shared *shared, const char *what, IoT_Error_t rc) {
	printf("%s: %s: %d\n", shared->topic, what, (int) rc);
	aws_iot_thread_mutex_lock(&shared->lock);
	shared->failed = true;
	aws_iot_thread_mutex_unlock(&shared->lock);
}

static void on_message(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					   IoT_Publish_Message_Params *params, void *data) {
	struct shared *shared = (struct shared *) data;
	(void) params;
	if (client != &shared->client || strncmp(topic, shared->topic, topic_len) != 0) {
		fail(shared, "a message of another client", FAILURE);
	}
	aws_iot_thread_mutex_lock(&shared->lock);
	shared->received += 1;
	aws_iot_thread_mutex_unlock(&shared->lock);
}

static bool goes_on(struct shared *shared, int wanted) {
	bool on;
	aws_iot_thread_mutex_lock(&shared->lock);
	on = !shared->failed && shared->received < wanted;
	aws_iot_thread_mutex_unlock(&shared->lock);
	return on;
}

static void *publish(void *data) {
	struct shared *shared = (struct shared *) data;
	IoT_Publish_Message_Params params;
	char payload[] = "hello";
	int number;
	memset(&params, 0, sizeof(params));
	params.payload = payload;
	params.payloadLen = sizeof(payload);
	for (number = 0; number < count; ++number) {
		IoT_Error_t rc;
		params.qos = number % 2 == 0 ? QOS0 : QOS1;
		/* One operation at a time: the others try again. */
		do {
			rc = aws_iot_mqtt_publish(&shared->client, shared->topic,
									  (uint16_t) strlen(shared->topic), &params);
			if (rc == MQTT_CLIENT_NOT_IDLE_ERROR) sched_yield();
		} while (rc == MQTT_CLIENT_NOT_IDLE_ERROR);
		if (rc != SUCCESS) {
			fail(shared, "publish", rc);
			break;
		}
	}
	return NULL;
}

static void *receive(void *data) {
	struct shared *shared = (struct shared *) data;
	while (goes_on(shared, PUBLISHERS * count)) {
		IoT_Error_t rc = aws_iot_mqtt_yield(&shared->client, 5);
		if (rc != SUCCESS && rc != MQTT_CLIENT_NOT_IDLE_ERROR) {
			fail(shared, "yield", rc);
		}
		sched_yield();
	}
	return NULL;
}

static IoT_Error_t begin(struct shared *shared, int number) {
	IoT_Client_Init_Params init = iotClientInitParamsDefault;
	IoT_Client_Connect_Params connect = iotClientConnectParamsDefault;
	IoT_Error_t rc;
	memset(shared, 0, sizeof(*shared));
	shared->topic = topics[number];
	init.enableAutoReconnect = false;
	init.pHostURL = host;
	init.port = port;
	init.pRootCALocation = root_ca;
	init.pDeviceCertLocation = certificate;
	init.pDevicePrivateKeyLocation = private_key;
	init.isBlockOnThreadLockEnabled = true;
	connect.pClientID = ids[number];
	connect.clientIDLen = (uint16_t) strlen(ids[number]);
	rc = aws_iot_thread_mutex_init(&shared->lock);
	if (rc == SUCCESS) rc = aws_iot_mqtt_init(&shared->client, &init);
	if (rc == SUCCESS) rc = aws_iot_mqtt_connect(&shared->client, &connect);
	if (rc == SUCCESS) {
		rc = aws_iot_mqtt_subscribe(&shared->client, shared->topic,
									(uint16_t) strlen(shared->topic), QOS1, on_message, shared);
	}
	return rc;
}

int main(int argc, char **argv) {
	static struct shared all[CLIENTS];
	pthread_t threads[CLIENTS][PUBLISHERS + 1];
	int client, thread, failed = 0;
	read_options(argc, argv);
	for (client = 0; client < CLIENTS; ++client) {
		IoT_Error_t rc = begin(&all[client], client);
		if (rc != SUCCESS) {
			printf("begin: %d\n", (int) rc);
			return 1;
		}
	}
	for (client = 0; client < CLIENTS; ++client) {
		for (thread = 0; thread <= PUBLISHERS; ++thread) {
			if (pthread_create(&threads[client][thread], NULL,
							   thread == 0 ? receive : publish, &all[client]) != 0) {
				return 1;
			}
		}
	}
	for (client = 0; client < CLIENTS; ++client) {
		for (thread = 0; thread <= PUBLISHERS; ++thread) {
			pthread_join(threads[client][thread], NULL);
		}
		printf("%s: %d messages\n", all[client].topic, all[client].received);
		failed |= all[client].failed || all[client].received != PUBLISHERS * count;
		failed |= aws_iot_mqtt_disconnect(&all[client].client) != SUCCESS;
		aws_iot_mqtt_free(&all[client].client);
		aws_iot_thread_mutex_destroy(&all[client].lock);
	}
	return failed;
}
