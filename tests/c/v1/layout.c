/* Prints the size of every structure of the headers, and where its members are. */
#include <stddef.h>
#include <stdio.h>

#include "aws_iot_shadow_interface.h"

#define SIZE(type) printf("v1 " #type ": %zu\n", sizeof(type))
#define AT(type, member) printf("v1 " #type "." #member ": %zu\n", offsetof(type, member))

int main(void) {
	SIZE(MQTTwillOptions);
	AT(MQTTwillOptions, pTopicName);
	AT(MQTTwillOptions, pMessage);
	AT(MQTTwillOptions, isRetained);
	AT(MQTTwillOptions, qos);
	SIZE(MQTTConnectParams);
	AT(MQTTConnectParams, enableAutoReconnect);
	AT(MQTTConnectParams, pHostURL);
	AT(MQTTConnectParams, port);
	AT(MQTTConnectParams, pRootCALocation);
	AT(MQTTConnectParams, pDeviceCertLocation);
	AT(MQTTConnectParams, pDevicePrivateKeyLocation);
	AT(MQTTConnectParams, pClientID);
	AT(MQTTConnectParams, pUserName);
	AT(MQTTConnectParams, pPassword);
	AT(MQTTConnectParams, MQTTVersion);
	AT(MQTTConnectParams, KeepAliveInterval_sec);
	AT(MQTTConnectParams, isCleansession);
	AT(MQTTConnectParams, isWillMsgPresent);
	AT(MQTTConnectParams, will);
	AT(MQTTConnectParams, mqttCommandTimeout_ms);
	AT(MQTTConnectParams, tlsHandshakeTimeout_ms);
	AT(MQTTConnectParams, isSSLHostnameVerify);
	AT(MQTTConnectParams, disconnectHandler);
	SIZE(MQTTMessageParams);
	AT(MQTTMessageParams, qos);
	AT(MQTTMessageParams, isRetained);
	AT(MQTTMessageParams, isDuplicate);
	AT(MQTTMessageParams, id);
	AT(MQTTMessageParams, pPayload);
	AT(MQTTMessageParams, PayloadLen);
	SIZE(MQTTCallbackParams);
	AT(MQTTCallbackParams, pTopicName);
	AT(MQTTCallbackParams, TopicNameLen);
	AT(MQTTCallbackParams, MessageParams);
	SIZE(MQTTSubscribeParams);
	AT(MQTTSubscribeParams, pTopic);
	AT(MQTTSubscribeParams, qos);
	AT(MQTTSubscribeParams, mHandler);
	SIZE(MQTTPublishParams);
	AT(MQTTPublishParams, pTopic);
	AT(MQTTPublishParams, MessageParams);
	SIZE(MQTTClient_t);
	AT(MQTTClient_t, connect);
	AT(MQTTClient_t, publish);
	AT(MQTTClient_t, subscribe);
	AT(MQTTClient_t, unsubscribe);
	AT(MQTTClient_t, disconnect);
	AT(MQTTClient_t, yield);
	AT(MQTTClient_t, isConnected);
	AT(MQTTClient_t, reconnect);
	AT(MQTTClient_t, isAutoReconnectEnabled);
	AT(MQTTClient_t, setAutoReconnectStatus);
	SIZE(ShadowParameters_t);
	AT(ShadowParameters_t, pMyThingName);
	AT(ShadowParameters_t, pMqttClientId);
	AT(ShadowParameters_t, pHost);
	AT(ShadowParameters_t, port);
	AT(ShadowParameters_t, pRootCA);
	AT(ShadowParameters_t, pClientCRT);
	AT(ShadowParameters_t, pClientKey);
	SIZE(jsonStruct_t);
	AT(jsonStruct_t, pKey);
	AT(jsonStruct_t, pData);
	AT(jsonStruct_t, type);
	AT(jsonStruct_t, cb);
	return 0;
}
