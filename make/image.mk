##@ Images

IMAGES := target/images
PROFILE ?= debug

.PHONY: image
image: build ## The image with the three binaries, built without Docker, into target/images
	@scripts/image.sh $(IMAGES)/portcullis.tar $(PROFILE)

.PHONY: image-load
image-load: image tools-check ## Images into the nodes of the cluster: Portcullis and NATS
	@e2e/images/nats.sh $(IMAGES)/nats.tar $(TOOLS)/nats-server
	@e2e/cluster/load-image $(IMAGES)/portcullis.tar $(IMAGES)/nats.tar
