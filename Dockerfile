# CPU:  docker build -t instructalign .
# CUDA: docker build -t instructalign:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# Run:  docker run --rm -it [--gpus all] -v "$PWD:/work" instructalign run mine.yaml
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /src/
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch==$(sed -n 's/^torch==//p' /src/constraints.txt)"
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt "/src[tensorboard]" && rm -rf /src
ENV HF_HUB_DISABLE_TELEMETRY=1 HF_HOME=/work/.cache/huggingface
WORKDIR /work
ENTRYPOINT ["instructalign"]
