"""MMAVK: auxiliary visual knowledge from a multimodal LLM, fused with every word, and a CRF."""
