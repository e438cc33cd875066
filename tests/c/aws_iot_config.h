/* The configuration that lies beside an application of the SDK. */
#ifndef TESTS_C_AWS_IOT_CONFIG_H
#define TESTS_C_AWS_IOT_CONFIG_H

#define AWS_IOT_MQTT_HOST "localhost"
#define AWS_IOT_MQTT_PORT 8883
#define AWS_IOT_MQTT_CLIENT_ID "c-sdk-client-id"
#define AWS_IOT_MY_THING_NAME "AWS-IoT-C-SDK"
#define AWS_IOT_ROOT_CA_FILENAME "rootCA.crt"
#define AWS_IOT_CERTIFICATE_FILENAME "cert.pem"
#define AWS_IOT_PRIVATE_KEY_FILENAME "privkey.pem"

#define AWS_IOT_MQTT_TX_BUF_LEN 512
#define AWS_IOT_MQTT_RX_BUF_LEN 512
#define AWS_IOT_MQTT_NUM_SUBSCRIBE_HANDLERS 5

#define AWS_IOT_MQTT_MIN_RECONNECT_WAIT_INTERVAL 1000
#define AWS_IOT_MQTT_MAX_RECONNECT_WAIT_INTERVAL 128000

#define DISABLE_METRICS false

#endif
