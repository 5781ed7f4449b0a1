"""A vLLM server with the recipe of a model family, for the scripts' --engine openai.

    python scripts/serve.py gpt_oss

serve_gpt_oss.sh and serve_qwen3.sh start it.
"""

from kflow.running.serve import main

if __name__ == "__main__":
    main()
