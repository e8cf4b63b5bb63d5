"""Loading and saving models: the base model, policies, reward models. Safetensors only; remote code stays off."""
