/*
 * Clients that come and go: whatever one has taken, it gives back. Connects over and over, with the
 * SDK's calls and with those of iotedge.h, and looks at the heap. Run it with
 * GLIBC_TUNABLES=glibc.malloc.tcache_count=0: what the allocator keeps for later looks used.
 *
 *   grow -h HOST -p PORT -c CERTIFICATES -x ROUNDS
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "aws_iot_config.h"
#include "aws_iot_shadow_interface.h"
#include "iotedge.h"
#include "options.h"

#define THING AWS_IOT_MY_THING_NAME
#define TOPIC "sdkTest/grow"

/* Rounds until everything that is made once is there. */
#define FIRST 10

static int answers = 0;
static int messages = 0;

static void on_answer(const char *thing, ShadowActions_t action, Shadow_Ack_Status_t status,
					  const char *document, void *context) {
	(void) thing;
	(void) action;
	(void) status;
	(void) document;
	(void) context;
	answers += 1;
}

static void on_message(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					   IoT_Publish_Message_Params *params, void *data) {
	(void) client;
	(void) topic;
	(void) topic_len;
	(void) params;
	(void) data;
	messages += 1;
}

static void on_delta(const char *value, uint32_t len, jsonStruct_t *member) {
	(void) value;
	(void) len;
	(void) member;
}

static int sdk(void) {
	AWS_IoT_Client client;
	ShadowInitParameters_t init = ShadowInitParametersDefault;
	ShadowConnectParameters_t connect = ShadowConnectParametersDefault;
	IoT_Publish_Message_Params params;
	jsonStruct_t delta;
	char document[200];
	bool on = true;
	IoT_Error_t rc;
	int wanted = answers + 1;

	init.pHost = host;
	init.port = port;
	init.pRootCA = root_ca;
	init.pClientCRT = certificate;
	init.pClientKey = private_key;
	memset(&delta, 0, sizeof(delta));
	delta.pKey = "on";
	delta.pData = &on;
	delta.type = SHADOW_JSON_BOOL;
	delta.cb = on_delta;
	memset(&params, 0, sizeof(params));
	params.qos = QOS1;
	params.payload = (void *) document;
	params.payloadLen = 5;

	rc = aws_iot_shadow_init(&client, &init);
	if (rc == SUCCESS) rc = aws_iot_shadow_connect(&client, &connect);
	if (rc == SUCCESS) rc = aws_iot_shadow_register_delta(&client, &delta);
	if (rc == SUCCESS) rc = aws_iot_shadow_init_json_document(document, sizeof(document));
	if (rc == SUCCESS) {
		rc = aws_iot_shadow_add_reported(document, sizeof(document), 1, &delta);
	}
	if (rc == SUCCESS) rc = aws_iot_finalize_json_document(document, sizeof(document));
	if (rc == SUCCESS) {
		rc = aws_iot_shadow_update(&client, THING, document, on_answer, NULL, 20, false);
	}
	while (rc == SUCCESS && answers < wanted) rc = aws_iot_shadow_yield(&client, 10);
	wanted = messages + 1;
	if (rc == SUCCESS) {
		rc = aws_iot_mqtt_subscribe(&client, TOPIC, (uint16_t) strlen(TOPIC), QOS1, on_message,
									NULL);
	}
	if (rc == SUCCESS) {
		rc = aws_iot_mqtt_publish(&client, TOPIC, (uint16_t) strlen(TOPIC), &params);
	}
	while (rc == SUCCESS && messages < wanted) rc = aws_iot_mqtt_yield(&client, 10);
	if (rc == SUCCESS) rc = aws_iot_mqtt_unsubscribe(&client, TOPIC, (uint16_t) strlen(TOPIC));
	if (rc == SUCCESS) rc = aws_iot_shadow_disconnect(&client);
	if (rc != SUCCESS) printf("the SDK's calls: %d\n", (int) rc);
	aws_iot_shadow_free(&client);
	return rc == SUCCESS ? 0 : 1;
}

static void on_native(const iotedge_message *message, void *data) {
	(void) message;
	*(int *) data += 1;
}

static int native(void) {
	iotedge_options options;
	iotedge_client *client;
	iotedge_status status;
	int came = 0;

	iotedge_options_init(&options);
	options.host = host;
	options.port = port;
	options.ca_file = root_ca;
	options.cert_file = certificate;
	options.key_file = private_key;
	options.client_id = "grow";
	status = iotedge_client_new(&options, &client);
	if (status != IOTEDGE_OK) return 1;
	status = iotedge_client_connect(client);
	if (status == IOTEDGE_OK) {
		status = iotedge_client_subscribe(client, TOPIC, 1, on_native, &came);
	}
	if (status == IOTEDGE_OK) {
		status = iotedge_publish_wait(client, TOPIC, (const uint8_t *) "hello", 5, 1, false, 20000);
	}
	while (status == IOTEDGE_OK && came == 0) status = iotedge_client_process(client, 10);
	if (status != IOTEDGE_OK) printf("iotedge.h: %s\n", iotedge_client_error(client));
	iotedge_client_free(client);
	return status == IOTEDGE_OK ? 0 : 1;
}

int main(int argc, char **argv) {
	size_t before = 0;
	size_t after;
	int round;
	read_options(argc, argv);
	for (round = 0; round < FIRST + count; ++round) {
		if (round == FIRST) before = mallinfo2().uordblks;
		if (sdk() != 0 || native() != 0) return 1;
	}
	after = mallinfo2().uordblks;
	printf("%d rounds: %zu bytes before, %zu after\n", count, before, after);
	return after > before ? 1 : 0;
}
