/* A TLS 1.2 client on mbedTLS 2.28, as small devices have it: it compares the server's name with the
 * DNS names of the certificate alone. Sends an MQTT CONNECT and wants a CONNACK that says yes.
 *
 *     mbedtls_client PORT NAME CA.pem DEVICE.pem DEVICE.key
 */
#include <stdio.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

static int fail(const char *what, int code)
{
	char text[200];
	mbedtls_strerror(code, text, sizeof text);
	printf("%s: %s\n", what, text);
	return 1;
}

int main(int argc, char **argv)
{
	/* Version 3.1.1, clean session, keep-alive 60, client id "mbed". */
	static const unsigned char connect[] = {0x10, 16,  0, 4, 'M', 'Q', 'T', 'T', 4,
						2,    0,   60, 0, 4, 'm', 'b', 'e', 'd'};
	unsigned char answer[4];
	mbedtls_net_context net;
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config config;
	mbedtls_x509_crt ca, device;
	mbedtls_pk_context key;
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
	int code;

	if (argc != 6)
		return 2;
	mbedtls_net_init(&net);
	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&config);
	mbedtls_x509_crt_init(&ca);
	mbedtls_x509_crt_init(&device);
	mbedtls_pk_init(&key);
	mbedtls_entropy_init(&entropy);
	mbedtls_ctr_drbg_init(&random);
	if ((code = mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0)))
		return fail("random", code);
	if ((code = mbedtls_x509_crt_parse_file(&ca, argv[3])))
		return fail("ca", code);
	if ((code = mbedtls_x509_crt_parse_file(&device, argv[4])))
		return fail("certificate", code);
	if ((code = mbedtls_pk_parse_keyfile(&key, argv[5], NULL)))
		return fail("key", code);
	if ((code = mbedtls_net_connect(&net, "127.0.0.1", argv[1], MBEDTLS_NET_PROTO_TCP)))
		return fail("connect", code);
	if ((code = mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT,
						MBEDTLS_SSL_TRANSPORT_STREAM,
						MBEDTLS_SSL_PRESET_DEFAULT)))
		return fail("defaults", code);
	mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
	mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);
	mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
	if ((code = mbedtls_ssl_conf_own_cert(&config, &device, &key)))
		return fail("own certificate", code);
	if ((code = mbedtls_ssl_setup(&ssl, &config)))
		return fail("setup", code);
	if ((code = mbedtls_ssl_set_hostname(&ssl, argv[2])))
		return fail("name", code);
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
	if ((code = mbedtls_ssl_handshake(&ssl)))
		return fail("handshake", code);
	printf("mbedTLS %s: %s, %s\n", MBEDTLS_VERSION_STRING, mbedtls_ssl_get_version(&ssl),
	       mbedtls_ssl_get_ciphersuite(&ssl));
	if ((code = mbedtls_ssl_write(&ssl, connect, sizeof connect)) != sizeof connect)
		return fail("write", code);
	if ((code = mbedtls_ssl_read(&ssl, answer, sizeof answer)) != sizeof answer)
		return fail("read", code);
	printf("CONNACK %d\n", answer[3]);
	return answer[0] == 0x20 && answer[3] == 0 ? 0 : 1;
}
