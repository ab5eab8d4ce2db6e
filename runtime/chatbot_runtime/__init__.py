"""The reference chatbot runtime: app, scheduler, worker-web and migrate in one image, by docs/runtime-contract.md."""
